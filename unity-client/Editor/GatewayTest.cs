using System;
using Sgaps.Client;
using UnityEditor;

namespace Sgaps.Client.Editor
{
    /// <summary>Starts a session of a small picture with the real client, without entering play mode, and says how far it came.</summary>
    internal sealed class GatewayTest : IDisposable
    {
        private const double TimeoutSecs = 10;
        private const int SidePx = 64;

        private NetworkClient _client;
        private double _beganAtSecs;

        public GatewayTest()
        {
            Report = "Test gateway starts a session and ends it at once.";
        }

        /// <summary>What came of it, for people.</summary>
        public string Report { get; private set; }

        public bool IsRunning
        {
            get { return _client != null; }
        }

        public void Start(string endpoint, string checkpointKey, string authToken)
        {
            Dispose();
            var config = new SessionConfig
            {
                Endpoint = endpoint, CheckpointKey = checkpointKey, AuthToken = authToken, Width = SidePx, Height = SidePx,
            };
            _beganAtSecs = NowSecs();
            _client = new NetworkClient(config, () => new ClientWebSocketTransport(), NowSecs, new Random());
            _client.ConnectionLost += reason => End("No connection: " + reason);
            _client.SessionRefused += error => End("The server refused the session: " + error.Message);
            _client.CoordinatesReceived += TakeCoordinates;
            Report = "Connecting…";
            _client.Start();
        }

        public void Poll()
        {
            if (_client == null) return;
            _client.Poll();
            if (_client != null && NowSecs() - _beganAtSecs > TimeoutSecs) End("No answer in " + TimeoutSecs + " s.");
        }

        public void Dispose()
        {
            if (_client != null) _client.Dispose();
            _client = null;
        }

        private void TakeCoordinates(UVCoordinates coordinates)
        {
            var session = _client.Session;
            var milliseconds = (int)((NowSecs() - _beganAtSecs) * 1000);
            End("The gateway works: " + coordinates.Coords.Length + " coordinates after " + milliseconds + " ms, " + _client.Subprotocol
                + ", model " + session.ModelVersion + (session.CheckpointLoaded ? "" : " (no checkpoint of this key yet)") + ".");
        }

        private void End(string report)
        {
            Report = report;
            Dispose();
        }

        private static double NowSecs()
        {
            return EditorApplication.timeSinceStartup;
        }
    }
}
