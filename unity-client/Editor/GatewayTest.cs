using System;
using Sgaps.Client;

namespace Sgaps.Client.Editor
{
    /// <summary>Starts a session of a small picture with the real client, without entering play mode, and says how far it came.</summary>
    internal sealed class GatewayTest : IDisposable
    {
        private const double TimeoutSecs = 10;
        private const int SidePx = 64;

        private readonly Func<double> _nowSecs;
        private NetworkClient _client;
        private double _beganAtSecs;

        /// <summary>A test that is not started; `nowSecs` is a monotonic clock.</summary>
        public GatewayTest(Func<double> nowSecs)
        {
            _nowSecs = nowSecs;
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
            _beganAtSecs = _nowSecs();
            _client = new NetworkClient(config, () => new ClientWebSocketTransport(), _nowSecs, new Random());
            _client.ConnectionLost += reason => End("No connection: " + reason);
            _client.SessionRefused += error => End("No session: " + error.Message);
            _client.CoordinatesReceived += TakeCoordinates;
            Report = "Connecting…";
            _client.Start();
        }

        public void Poll()
        {
            if (_client == null) return;
            _client.Poll();
            if (_client != null && _nowSecs() - _beganAtSecs > TimeoutSecs) End("No answer in " + TimeoutSecs + " s.");
        }

        public void Dispose()
        {
            if (_client != null) _client.Dispose();
            _client = null;
        }

        private void TakeCoordinates(UVCoordinates coordinates)
        {
            var milliseconds = (int)((_nowSecs() - _beganAtSecs) * 1000);
            End("The gateway works: " + coordinates.Coords.Length + " coordinates after " + milliseconds + " ms, " + _client.Subprotocol
                + ", " + SessionReport.Model(_client.Session) + ".");
        }

        private void End(string report)
        {
            Report = report;
            Dispose();
        }
    }
}
