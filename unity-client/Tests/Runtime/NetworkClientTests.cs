using System;
using System.Collections.Generic;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    public class NetworkClientTests
    {
        private readonly List<FakeTransport> _transports = new List<FakeTransport>();
        private readonly List<string> _lost = new List<string>();
        private NetworkClient _client;
        private double _nowSecs;

        private FakeTransport Transport
        {
            get { return _transports[_transports.Count - 1]; }
        }

        [SetUp]
        public void SetUp()
        {
            _transports.Clear();
            _lost.Clear();
            _nowSecs = 100;
            Use(Config());
        }

        private static SessionConfig Config()
        {
            return new SessionConfig { Endpoint = "ws://127.0.0.1:1/ws/stream", CheckpointKey = "doom", Width = 8, Height = 6, MaxStateDim = 3 };
        }

        private void Use(SessionConfig config)
        {
            _client = new NetworkClient(config, NewTransport, () => _nowSecs, new Random(0));
            _client.ConnectionLost += reason => _lost.Add(reason);
        }

        private IWebSocketTransport NewTransport()
        {
            _transports.Add(new FakeTransport());
            return Transport;
        }

        private void Connect(bool resumed = false, long lastFrameId = -1, string sessionId = "s-1")
        {
            if (_client.State == ConnectionState.Stopped) _client.Start();
            Transport.State = TransportState.Open;
            Transport.Says(Wire.Ack(resumed, lastFrameId, sessionId));
            Transport.Says(Wire.Answer(-1, 2 * lastFrameId + 3));
            _client.Poll();
            Assert.That(_client.State, Is.EqualTo(ConnectionState.Streaming));
        }

        private SendResult Send(UVCoordinates set = null, params float[] state)
        {
            var pixels = new PixelData();
            pixels.Reset(set ?? _client.Session.Coordinates ?? Wire.Set());
            return _client.TrySend(pixels, state, state.Length, 1, null);
        }

        private void Wait(double secs)
        {
            _nowSecs += secs;
            _client.Poll();
        }

        private string LastSent()
        {
            return Transport.SentText(Transport.Sent.Count - 1);
        }

        [Test]
        public void ASessionIsStartedAndFramesAreSent()
        {
            Connect();
            Assert.That(Transport.Offered, Is.EqualTo(new[] { "sgaps.v1.binary", "sgaps.v1.json" }));
            StringAssert.Contains("\"features\":[\"footprint\"]", Transport.SentText(0));
            StringAssert.Contains("heartbeat", Transport.SentText(1));
            Assert.That(Send(null, 1.5f, -999f, 7f), Is.EqualTo(SendResult.Sent));
            StringAssert.Contains("\"frame_id\":0", LastSent());
            StringAssert.Contains("\"state_vector\":[1.5,-999]", LastSent(), "cut to the server's max_state_dim");
            Transport.Says(Wire.Answer(0, 2));
            _client.Poll();
            Assert.That(_client.Session.Account.Answered, Is.EqualTo(1));
            Assert.That(_client.Session.Coordinates.SetId, Is.EqualTo(2));
            Assert.That(_client.Session.BytesUp, Is.GreaterThan(0));
            Assert.That(_client.Session.BytesDown, Is.GreaterThan(0));
        }

        [Test]
        public void TheServersChoiceOfTheFormIsSpoken()
        {
            _client.Start();
            Transport.Subprotocol = "sgaps.v1.binary";
            Connect();
            Assert.That(_client.Subprotocol, Is.EqualTo("sgaps.v1.binary"));
            Send();
            Assert.That(Transport.Sent[2][0], Is.EqualTo((byte)'S'));
            Assert.That(Transport.Sent[2].Length, Is.EqualTo(36 + 2));
        }

        [Test]
        public void AKeyframeGoesJustBeforeItsFrame()
        {
            Connect();
            Assert.That(_client.WantsKeyframe(0));
            Assert.That(_client.WantsKeyframe(1), Is.False);
            Assert.That(_client.WantsKeyframe(3));
            var pixels = new PixelData();
            pixels.Reset(_client.Session.Coordinates);
            _client.TrySend(pixels, new float[0], 0, 1, new byte[] { 1, 2, 3 });
            StringAssert.Contains("{\"type\":\"keyframe\",\"frame_id\":0,\"encoding\":\"png\",\"data\":\"AQID\"}", Transport.SentText(2));
            StringAssert.Contains("\"type\":\"frame_data\",\"frame_id\":0", Transport.SentText(3));
        }

        [Test]
        public void ALostConnectionIsResumedAndItsFramesAreBooked()
        {
            Connect();
            for (var i = 0; i < 5; i++) Send();
            Transport.Breaks("cut");
            _client.Poll();
            Assert.That(_lost, Is.EqualTo(new[] { "cut" }));
            Assert.That(_client.State, Is.EqualTo(ConnectionState.Waiting));
            Assert.That(Send(), Is.EqualTo(SendResult.NotConnected));
            Assert.That(_client.Session.FramesDropped, Is.EqualTo(1));
            Wait(0.05);
            Assert.That(_transports.Count, Is.EqualTo(1), "not before the pause is over");
            Wait(0.2);
            Connect(resumed: true, lastFrameId: 2);
            StringAssert.Contains("\"resume_session_id\":\"s-1\"", Transport.SentText(0));
            var account = _client.Session.Account;
            Assert.That(new long[] { account.Resumed, account.Lost, account.Accepted, account.NextFrameId }, Is.EqualTo(new long[] { 1, 2, 3, 5 }));
            Assert.That(_transports[0].IsDisposed);
        }

        [Test]
        public void PausesGrowAndAreNotTheSame()
        {
            var pausesSecs = new List<double>();
            _client.Start();
            for (var i = 0; i < 9; i++)
            {
                Transport.Breaks("nobody listens");
                _client.Poll();
                var began = _nowSecs;
                while (_client.State == ConnectionState.Waiting) Wait(0.01);
                pausesSecs.Add(_nowSecs - began);
            }
            Assert.That(pausesSecs[0], Is.InRange(0.1, 0.22));
            Assert.That(pausesSecs[8], Is.InRange(2.5, 5.02));
            Assert.That(pausesSecs[7], Is.Not.EqualTo(pausesSecs[8]));
        }

        [Test]
        public void ASessionThatIsGoneIsFollowedByANewOne()
        {
            Connect();
            Send();
            Transport.Breaks("cut");
            Wait(0);
            Wait(1);
            Transport.State = TransportState.Open;
            Transport.Says(Wire.Error("session_not_found", true));
            _client.Poll();
            Assert.That(_client.Session.Account.Lost, Is.EqualTo(1));
            Wait(1);
            Connect(sessionId: "s-2");
            StringAssert.DoesNotContain("resume", Transport.SentText(0));
            Assert.That(_client.Session.SessionsStarted, Is.EqualTo(2));
            Assert.That(_client.Session.Account.SessionId, Is.EqualTo("s-2"));
        }

        [Test]
        public void ValuesOfAnEarlierConnectionAreNotSentUnderThisOne()
        {
            Connect();
            var old = _client.Session.Coordinates;
            Transport.Breaks("cut");
            Wait(0);
            Wait(1);
            Connect(resumed: true);
            Assert.That(Send(old), Is.EqualTo(SendResult.StaleCoordinates));
            Assert.That(Send(), Is.EqualTo(SendResult.Sent));
        }

        [Test]
        public void TheServerForgetsASetBehindSixteenNewer()
        {
            Connect();
            var first = _client.Session.Coordinates;
            for (var i = 0; i < 15; i++) Transport.Says(Wire.Answer(-1, i));
            _client.Poll();
            Assert.That(Send(first), Is.EqualTo(SendResult.Sent));
            Transport.Says(Wire.Answer(-1, 99));
            _client.Poll();
            Assert.That(Send(first), Is.EqualTo(SendResult.StaleCoordinates));
        }

        [Test]
        public void AnOverloadedServerIsGivenItsPause()
        {
            Connect();
            Send();
            Transport.Says(Wire.Error("overloaded", false, "2"));
            _client.Poll();
            Assert.That(Send(), Is.EqualTo(SendResult.Paused));
            Assert.That(_client.Session.Account.Refused, Is.EqualTo(1));
            Wait(2.1);
            Assert.That(Send(), Is.EqualTo(SendResult.Sent));
        }

        [Test]
        public void AHeartbeatTellsTheRate()
        {
            Connect();
            Transport.Says("{\"type\":\"heartbeat_ack\",\"timestamp\":1,\"server_time\":1,\"last_recorded_frame_id\":4,\"target_fps\":5}");
            _client.Poll();
            Assert.That(_client.Session.TargetFps, Is.EqualTo(5));
            Assert.That(_client.Session.Account.LastRecordedFrameId, Is.EqualTo(4));
            var sent = Transport.Sent.Count;
            Wait(1.1);
            Assert.That(Transport.Sent.Count, Is.EqualTo(sent + 1), "one a second");
        }

        [Test]
        public void AServerThatStopsIsComeBackTo()
        {
            Connect();
            Transport.Says(Wire.Error("shutting_down", true, "1"));
            Transport.Breaks("1012");
            _client.Poll();
            Assert.That(_client.State, Is.EqualTo(ConnectionState.Waiting));
            Wait(0.9);
            Assert.That(_transports.Count, Is.EqualTo(1));
            Wait(0.2);
            Assert.That(_transports.Count, Is.EqualTo(2));
        }

        [TestCase("unauthorized")]
        [TestCase("session_taken_over")]
        public void ARefusalForGoodEndsTheClient(string code)
        {
            ProtocolException told = null;
            _client.SessionRefused += error => told = error;
            _client.Start();
            Transport.State = TransportState.Open;
            Transport.Says(Wire.Error(code, true));
            _client.Poll();
            Wait(60);
            Assert.That(_client.State, Is.EqualTo(ConnectionState.Refused));
            Assert.That(told.Code, Is.EqualTo(code));
            Assert.That(_transports.Count, Is.EqualTo(1));
        }

        [Test]
        public void AServerThatBreaksTheProtocolIsLeft()
        {
            Connect();
            Transport.Says("{}");
            _client.Poll();
            Assert.That(_client.Refusal.Code, Is.EqualTo("bad_message"));
            Assert.That(Transport.IsDisposed);
        }

        [Test]
        public void ASilentServerIsLeft()
        {
            Connect();
            Wait(9);
            Transport.Says(Wire.Answer(0, 2));
            Wait(5);
            Assert.That(_client.State, Is.EqualTo(ConnectionState.Streaming));
            Wait(11);
            Assert.That(_lost, Is.EqualTo(new[] { "the server says nothing" }));
        }

        [Test]
        public void ANetworkThatIsTooSlowDropsFrames()
        {
            Connect();
            Transport.BacklogBytes = 2 * 1024 * 1024;
            Assert.That(Send(), Is.EqualTo(SendResult.Backlogged));
        }

        [Test]
        public void AStateThatIsNotFiniteIsNotSent()
        {
            Connect();
            Assert.Throws<ArgumentException>(() => Send(null, float.NaN));
        }

        [Test]
        public void AGamesOwnPatternIsSentAsPointsInJson()
        {
            var config = Config();
            config.OwnPattern = SamplingPattern.Random;
            Use(config);
            Connect();
            Assert.That(Transport.Offered, Is.EqualTo(new[] { "sgaps.v1.json" }));
            StringAssert.Contains("\"features\":[]", Transport.SentText(0));
            Assert.That(Send(), Is.EqualTo(SendResult.StaleCoordinates), "the server's");
            var own = UVCoordinates.OwnChoice(SamplingPatterns.Create(SamplingPattern.Random, 2, 8, 6, new Random(0)));
            Assert.That(Send(own), Is.EqualTo(SendResult.Sent));
            StringAssert.Contains("\"coordinate_set_id\":0", LastSent());
        }

        [Test]
        public void AHandlerMayStopTheClient()
        {
            Connect();
            _client.CoordinatesReceived += _ => _client.Stop();
            Transport.Says(Wire.Answer(0, 2));
            Transport.Says(Wire.Answer(1, 4));
            _client.Poll();
            Assert.That(_client.State, Is.EqualTo(ConnectionState.Stopped));
            _client.Start();
            Assert.That(_client.State, Is.EqualTo(ConnectionState.Connecting));
        }

        [TestCase("http://h/ws/stream", "doom")]
        [TestCase("ws://h", "doom")]
        [TestCase("", "doom")]
        [TestCase("h", "doom")]
        [TestCase("ws://h/ws/stream", "")]
        [TestCase("ws://h/ws/stream", "a/b")]
        [TestCase("ws://h/ws/stream", "a\n")]
        public void AWrongConfigurationIsNamedAtOnce(string endpoint, string key)
        {
            var config = Config();
            config.Endpoint = endpoint;
            config.CheckpointKey = key;
            Assert.Throws<ArgumentException>(() => Use(config));
        }

        [Test]
        public void TheHttpAddressFollowsFromTheEndpoint()
        {
            var config = Config();
            Assert.That(config.HttpAddress, Is.EqualTo("http://127.0.0.1:1"));
            config.Endpoint = "wss://example.org/ws/stream";
            Assert.That(config.HttpAddress, Is.EqualTo("https://example.org"));
        }
    }
}
