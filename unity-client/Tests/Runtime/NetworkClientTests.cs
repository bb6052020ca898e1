using System;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    public class NetworkClientTests : ClientFixture
    {
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
            Client.Poll();
            Assert.That(Client.Session.Account.Answered, Is.EqualTo(1));
            Assert.That(Client.Session.Coordinates.SetId, Is.EqualTo(2));
            Assert.That(Client.Session.BytesUp, Is.GreaterThan(0));
            Assert.That(Client.Session.BytesDown, Is.GreaterThan(0));
        }

        [Test]
        public void TheServersChoiceOfTheFormIsSpoken()
        {
            Client.Start();
            Transport.Subprotocol = "sgaps.v1.binary";
            Connect();
            Assert.That(Client.Subprotocol, Is.EqualTo("sgaps.v1.binary"));
            Send();
            Assert.That(Transport.Sent[2][0], Is.EqualTo((byte)'S'));
            Assert.That(Transport.Sent[2].Length, Is.EqualTo(36 + 2));
        }

        [Test]
        public void AKeyframeGoesJustBeforeItsFrame()
        {
            Connect();
            Assert.That(Client.WantsKeyframe(0));
            Assert.That(Client.WantsKeyframe(1), Is.False);
            Assert.That(Client.WantsKeyframe(3));
            var pixels = new PixelData();
            pixels.Reset(Client.Session.Coordinates);
            Client.TrySend(pixels, new float[0], 0, 1, new byte[] { 1, 2, 3 });
            StringAssert.Contains("{\"type\":\"keyframe\",\"frame_id\":0,\"encoding\":\"png\",\"data\":\"AQID\"}", Transport.SentText(2));
            StringAssert.Contains("\"type\":\"frame_data\",\"frame_id\":0", Transport.SentText(3));
        }

        [Test]
        public void TheServerForgetsASetBehindSixteenNewer()
        {
            Connect();
            var first = Client.Session.Coordinates;
            for (var i = 0; i < 15; i++) Transport.Says(Wire.Answer(-1, i));
            Client.Poll();
            Assert.That(Send(first), Is.EqualTo(SendResult.Sent));
            Transport.Says(Wire.Answer(-1, 99));
            Client.Poll();
            Assert.That(Send(first), Is.EqualTo(SendResult.StaleCoordinates));
        }

        [TestCase(false)]
        [TestCase(true)]
        public void PixelsThatWereNeverFilledAreNotSent(bool ownPattern)
        {
            var config = Config();
            if (ownPattern) config.OwnPattern = SamplingPattern.Random;
            Use(config);
            Connect();
            var sent = Transport.Sent.Count;
            Assert.That(Client.TrySend(new PixelData(), new float[0], 0, 1, new byte[] { 1 }), Is.EqualTo(SendResult.StaleCoordinates));
            Assert.That(Transport.Sent.Count, Is.EqualTo(sent), "nor their keyframe");
        }

        [Test]
        public void AnOverloadedServerIsGivenItsPause()
        {
            Connect();
            Send();
            Transport.Says(Wire.Error("overloaded", false, "2"));
            Client.Poll();
            Assert.That(Send(), Is.EqualTo(SendResult.Paused));
            Assert.That(Client.Session.Account.Refused, Is.EqualTo(1));
            Wait(2.1);
            AnswerHeartbeats();
            Assert.That(Send(), Is.EqualTo(SendResult.Sent));
        }

        [Test]
        public void AHeartbeatTellsTheRate()
        {
            Connect();
            Transport.Says(Wire.HeartbeatAck("1", 4));
            Client.Poll();
            Assert.That(Client.Session.TargetFps, Is.EqualTo(5));
            Assert.That(Client.Session.Account.LastRecordedFrameId, Is.EqualTo(4));
            var sent = Transport.Sent.Count;
            Wait(1.1);
            Assert.That(Transport.Sent.Count, Is.EqualTo(sent + 1), "one a second");
        }

        [Test]
        public void ANetworkThatIsTooSlowDropsFrames()
        {
            Connect();
            Transport.BacklogBytes = 2 * 1024 * 1024;
            Assert.That(Send(), Is.EqualTo(SendResult.Backlogged));
        }

        [Test]
        public void FramesAreDroppedWhileAHeartbeatWaitsBehindOthers()
        {
            Connect();
            Wait(0.9);
            Assert.That(Send(), Is.EqualTo(SendResult.Sent));
            Wait(0.2);
            Assert.That(Send(), Is.EqualTo(SendResult.Backlogged));
            Assert.That(Client.Session.FramesDropped, Is.EqualTo(1));
            AnswerHeartbeats();
            Assert.That(Send(), Is.EqualTo(SendResult.Sent));
        }

        [Test]
        public void FramesGoOnWhereEveryAnswerTakesLong()
        {
            Connect();
            Wait(2.5);
            Assert.That(Send(), Is.EqualTo(SendResult.Backlogged), "nothing is known of the way yet");
            AnswerOldestHeartbeat();
            Wait(2.4);
            Assert.That(Send(), Is.EqualTo(SendResult.Sent));
            Wait(1.2);
            Assert.That(Send(), Is.EqualTo(SendResult.Backlogged));
            Transport.Breaks("cut");
            Wait(0);
            Wait(1);
            Connect(resumed: true);
            Wait(1.1);
            Assert.That(Send(), Is.EqualTo(SendResult.Backlogged), "the new connection may go another way");
        }

        [Test]
        public void ALostConnectionTakesItsQueueAlong()
        {
            Connect();
            Wait(1.1);
            Assert.That(Send(), Is.EqualTo(SendResult.Backlogged));
            Transport.Breaks("cut");
            Wait(0);
            Wait(1);
            Connect(resumed: true);
            Assert.That(Send(), Is.EqualTo(SendResult.Sent));
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
        public void ARefusedHeartbeatIsNotBookedAsARefusedFrame()
        {
            Connect();
            Send();
            Transport.Says(Wire.Error("overloaded", false, "0"));
            Client.Poll();
            Assert.That(Client.Session.Account.Refused, Is.EqualTo(1), "it may have been the frame");
            Wait(1.1);
            Transport.Says(Wire.HeartbeatAck(LastSent().Split(':')[2].TrimEnd('}'), 0));
            Client.Poll();
            Assert.That(Client.Session.Account.Refused, Is.EqualTo(0), "an older heartbeat has no answer: that was it");
            Assert.That(Client.Session.Account.IsComplete, Is.False);
            Transport.Says(Wire.Answer(0, 2));
            Client.Poll();
            Assert.That(Client.Session.Account.IsComplete);
        }

        [Test]
        public void AFrameMakesNoGarbageFromItsPictureToTheSocket()
        {
            Client.Start();
            Transport.Subprotocol = ProtocolLimits.BinarySubprotocol;
            Transport.KeepsSent = false;
            Connect();
            var frames = new FrameLoop(Client);
            frames.Run(100);
            var collections = GC.CollectionCount(0);
            // Of a single small object each, this would be more memory than starts a collection.
            frames.Run(300000);
            Assert.That(GC.CollectionCount(0), Is.EqualTo(collections));
            Assert.That(Client.Session.Account.Sent, Is.EqualTo(300100));
        }

        /// <summary>What a game does for each frame, but for the engine.</summary>
        private sealed class FrameLoop
        {
            private readonly NetworkClient _client;
            private readonly StateVectorCollector _collector = new StateVectorCollector();
            private readonly PerformanceMonitor _monitor;
            private readonly FramePacer _pacer = new FramePacer();
            private readonly PixelData _pixels = new PixelData();
            private readonly byte[] _luma = new byte[8 * 6];
            private float[] _state = new float[0];
            private double _secs;

            public FrameLoop(NetworkClient client)
            {
                _client = client;
                _monitor = new PerformanceMonitor(() => _secs);
            }

            public void Run(int frames)
            {
                for (var i = 0; i < frames; i++) Step();
            }

            private void Step()
            {
                _client.Poll();
                _secs += 1;
                _collector.AddValue(1.5f);
                _collector.AddMissing();
                if (!_client.CanSend || !_pacer.TakeIfDue(_secs, _client.Session.TargetFps)) return;
                PixelSampler.Sample(_luma, 8, 6, RowOrder.TopFirst, _client.Session.Coordinates, _pixels);
                var count = _collector.MoveTo(ref _state);
                _client.TrySend(_pixels, _state, count, _secs, null);
                _monitor.BookSent(_client.Session.Account.NextFrameId - 1);
                _monitor.BookCapture(_monitor.FramesPerSec + _monitor.LatencyMs);
            }
        }
    }
}
