using System;
using System.Collections.Generic;
using System.Text.RegularExpressions;

namespace Sgaps.Client
{
    /// <summary>What a session is about. Checked when a client is made of it.</summary>
    public sealed class SessionConfig
    {
        private const string SocketPath = "/ws/stream";

        private static readonly Regex Identifier = new Regex(@"\A[A-Za-z0-9_-]{1,64}\z");

        /// <summary>Address of the gateway's socket, such as ws://127.0.0.1:8000/ws/stream.</summary>
        public string Endpoint { get; set; }

        /// <summary>Which checkpoint serves and learns from this game: 1 to 64 letters, digits, - and _.</summary>
        public string CheckpointKey { get; set; }

        /// <summary>Width of the picture in pixels; one session has one size.</summary>
        public int Width { get; set; }

        /// <summary>Height of the picture in pixels.</summary>
        public int Height { get; set; }

        /// <summary>Most state values that a frame will have, for the server to know; how many are sent it says itself, in SessionStartAck.MaxStateDim.</summary>
        public int MaxStateDim { get; set; }

        /// <summary>What the server asks for, where it asks; else null or empty.</summary>
        public string AuthToken { get; set; }

        /// <summary>Whether the server sends its importance map along; it costs bytes.</summary>
        public bool WantsImportance { get; set; }

        /// <summary>Null samples where the server asks; a pattern samples that, as points in the JSON form.</summary>
        public SamplingPattern? OwnPattern { get; set; }

        /// <summary>Speak JSON even where the server offers the binary form: 20 times the bytes, readable.</summary>
        public bool JsonOnly { get; set; }

        /// <summary>What is offered to the server, the best first. Binary frames name one of the server's sets.</summary>
        public IList<string> Subprotocols
        {
            get
            {
                return JsonOnly || OwnPattern.HasValue
                    ? new[] { ProtocolLimits.JsonSubprotocol }
                    : new[] { ProtocolLimits.BinarySubprotocol, ProtocolLimits.JsonSubprotocol };
            }
        }

        /// <summary>
        /// Address of the gateway's HTTP API, without a slash at its end: http://127.0.0.1:8000. A proxy that serves the gateway
        /// below a path serves this below the same.
        /// </summary>
        public string HttpAddress
        {
            get
            {
                var endpoint = new Uri(Endpoint);
                var path = endpoint.AbsolutePath;
                var above = path.EndsWith(SocketPath, StringComparison.Ordinal) ? path.Substring(0, path.Length - SocketPath.Length) : "";
                return (endpoint.Scheme == "wss" ? "https://" : "http://") + endpoint.Authority + above;
            }
        }

        /// <summary>What the HTTP API wants as Authorization header; null without a token.</summary>
        public string HttpAuthorization
        {
            get { return string.IsNullOrEmpty(AuthToken) ? null : "Bearer " + AuthToken; }
        }

        /// <summary>Throws ArgumentException naming what is wrong.</summary>
        public void Validate()
        {
            Require(ProblemWithEndpoint(Endpoint));
            Require(ProblemWithKey(CheckpointKey));
            var fits = Width >= 1 && Height >= 1 && Width <= ProtocolLimits.MaxSidePx && Height <= ProtocolLimits.MaxSidePx;
            Require(fits ? null : Width + "x" + Height + " is no picture of at most " + ProtocolLimits.MaxSidePx + " pixels a side");
            var hasRoom = MaxStateDim >= 0 && MaxStateDim <= ProtocolLimits.MaxStateDim;
            Require(hasRoom ? null : "at most " + ProtocolLimits.MaxStateDim + " state values, not " + MaxStateDim);
        }

        /// <summary>What is wrong with the address, in a sentence; null if nothing.</summary>
        public static string ProblemWithEndpoint(string endpoint)
        {
            Uri address;
            if (string.IsNullOrEmpty(endpoint)) return "The endpoint is empty; ws://127.0.0.1:8000/ws/stream is a gateway on this machine.";
            if (!Uri.TryCreate(endpoint, UriKind.Absolute, out address)) return "The endpoint is no address.";
            if (address.Scheme != "ws" && address.Scheme != "wss") return "The endpoint begins with " + address.Scheme + "://, not with ws:// or wss://.";
            if (address.Host.Length == 0) return "The endpoint names no host.";
            return address.AbsolutePath == "/" ? "The endpoint has no path; the gateway listens at /ws/stream." : null;
        }

        /// <summary>What is wrong with the key, in a sentence; null if nothing.</summary>
        public static string ProblemWithKey(string checkpointKey)
        {
            if (string.IsNullOrEmpty(checkpointKey)) return "The checkpoint key is empty; it names your game, such as my-game.";
            return IsIdentifier(checkpointKey) ? null : "The checkpoint key has other characters than letters, digits, - and _, or more than 64.";
        }

        internal static bool IsIdentifier(string text)
        {
            return Identifier.IsMatch(text);
        }

        private static void Require(string problem)
        {
            if (problem != null) throw new ArgumentException(problem);
        }
    }
}
