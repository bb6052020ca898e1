using System;
using System.Collections.Generic;
using System.Text;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    /// <summary>A client whose server and clock are the test.</summary>
    public abstract class ClientFixture
    {
        protected readonly List<FakeTransport> Transports = new List<FakeTransport>();
        protected readonly List<string> Lost = new List<string>();
        protected NetworkClient Client;
        protected double NowSecs;

        protected FakeTransport Transport
        {
            get { return Transports[Transports.Count - 1]; }
        }

        [SetUp]
        public void SetUp()
        {
            Transports.Clear();
            Lost.Clear();
            NowSecs = 100;
            Use(Config());
        }

        protected static SessionConfig Config()
        {
            return new SessionConfig { Endpoint = "ws://127.0.0.1:1/ws/stream", CheckpointKey = "doom", Width = 8, Height = 6, MaxStateDim = 3 };
        }

        protected void Use(SessionConfig config, int seed = 0)
        {
            Client = new NetworkClient(config, NewTransport, () => NowSecs, new Random(seed));
            Client.ConnectionLost += reason => Lost.Add(reason);
        }

        protected IWebSocketTransport NewTransport()
        {
            Transports.Add(new FakeTransport());
            return Transport;
        }

        protected void Connect(bool resumed = false, long lastFrameId = -1, string sessionId = "s-1")
        {
            if (Client.State == ConnectionState.Stopped) Client.Start();
            Transport.State = TransportState.Open;
            Transport.Says(Wire.Ack(resumed, lastFrameId, sessionId));
            Transport.Says(Wire.Answer(-1, 2 * lastFrameId + 3));
            Client.Poll();
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Streaming));
        }

        protected SendResult Send(UVCoordinates set = null, params float[] state)
        {
            var pixels = new PixelData();
            pixels.Reset(set ?? Client.Session.Coordinates ?? Wire.Set());
            return Client.TrySend(pixels, state, state.Length, 1, null);
        }

        protected void Wait(double secs)
        {
            NowSecs += secs;
            Client.Poll();
        }

        protected void WaitPolling(int secs)
        {
            for (var i = 0; i < secs; i++) Wait(1);
        }

        // Of the newest heartbeat: older ones count as refused.
        protected void AnswerHeartbeats()
        {
            AnswerHeartbeat(Transport.Sent.FindLastIndex(IsHeartbeat));
        }

        protected void AnswerOldestHeartbeat()
        {
            AnswerHeartbeat(Transport.Sent.FindIndex(IsHeartbeat));
        }

        private void AnswerHeartbeat(int index)
        {
            Transport.Says(Wire.HeartbeatAck(Transport.SentText(index).Split(':')[2].TrimEnd('}')));
            Client.Poll();
        }

        private static bool IsHeartbeat(byte[] sent)
        {
            return Encoding.UTF8.GetString(sent).Contains("heartbeat");
        }

        protected string LastSent()
        {
            return Transport.SentText(Transport.Sent.Count - 1);
        }
    }
}
