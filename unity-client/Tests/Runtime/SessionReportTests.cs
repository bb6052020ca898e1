using System;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    /// <summary>What the debug panel and the inspector say.</summary>
    public class SessionReportTests : ClientFixture
    {
        private readonly PerformanceMonitor _performance;

        public SessionReportTests()
        {
            _performance = new PerformanceMonitor(() => NowSecs);
        }

        private string Report()
        {
            return SessionReport.Of(Client, _performance, "8x6 gathered on the GPU");
        }

        [Test]
        public void WithoutAClientItIsShort()
        {
            Assert.That(SessionReport.Of(null, _performance, "stopped"), Is.EqualTo("not connected"));
        }

        [Test]
        public void BeforeTheFirstSessionItSaysWhereItConnectsTo()
        {
            Client.Start();
            Assert.That(Report(), Is.EqualTo("Connecting  \nws://127.0.0.1:1/ws/stream\n"));
        }

        [Test]
        public void ARunningSessionIsToldInFull()
        {
            _performance.Reset();
            Connect();
            for (var frame = 0; frame < 3; frame++)
            {
                NowSecs += 0.05;
                Send();
                _performance.BookSent(frame);
                _performance.BookCapture(0.25);
            }
            NowSecs += 0.1;
            _performance.BookAnswer(2);
            Transport.Says(Wire.Answer(2, 8).Replace("\"predicted_psnr\":null", "\"predicted_psnr\":27.46"));
            Transport.Says("{\"type\":\"heartbeat_ack\",\"timestamp\":1,\"server_time\":1,\"last_recorded_frame_id\":1,\"target_fps\":12.5}");
            Transport.Says(Wire.Error("rate_limited", false, "1"));
            Client.Poll();
            Send();
            // The length of a timestamp varies.
            var bytes = FormattableString.Invariant($"{Client.Session.BytesUp / 1000.0:0.0} kB up, {Client.Session.BytesDown / 1000.0:0.0} kB down\n");
            Assert.That(Report(), Is.EqualTo(
                "Streaming  \nws://127.0.0.1:1/ws/stream\npaused for 1.0 s, as the server asks\nsession s-1, resumed 0 times\n"
                + "10.0 frames/s of 12.5 wanted, latency 100 ms\n" + bytes
                + "capture 0.25 ms, 8x6 gathered on the GPU\n3 sent, 1 answered, 1 refused, 0 lost\n"
                + "1 dropped here, recorded up to frame 1\nlast refusal: rate_limited\nmodel telea (no trained checkpoint serves), predicted PSNR 27.5 dB\n"));
        }

        [Test]
        public void ARefusalIsToldWithItsReason()
        {
            Client.Start();
            Transport.State = TransportState.Open;
            Transport.Says(Wire.Error("unauthorized", true));
            Client.Poll();
            Assert.That(Report(), Is.EqualTo("Refused  \nws://127.0.0.1:1/ws/stream\nunauthorized: m\n"));
        }

        [Test]
        public void ALostConnectionIsToldWithItsReasonAndTheNextTry()
        {
            Client.Start();
            Transport.State = TransportState.Open;
            Transport.Says(Wire.Error("too_many_sessions", true, "30"));
            Client.Poll();
            NowSecs += 20;
            // The pause between tries comes on top, by chance.
            StringAssert.IsMatch(@"\AWaiting  \nws://127\.0\.0\.1:1/ws/stream\ntoo_many_sessions: m; again in 10\.[12] s\n\z", Report());
        }

        [Test]
        public void AModelThatIsNotTrainedIsNamedSoUntilOneThatIsServes()
        {
            Client.Start();
            Transport.State = TransportState.Open;
            Transport.Says(Wire.Ack().Replace("\"v1\"", "\"none\"").Replace("\"checkpoint_loaded\":true", "\"checkpoint_loaded\":false"));
            Client.Poll();
            StringAssert.EndsWith("\nmodel none (no reconstructor runs), predicted PSNR ? dB\n", Report());
            Transport.Says(Wire.Answer(-1, 1).Replace("telea", "untrained"));
            Client.Poll();
            StringAssert.EndsWith("\nmodel untrained (no trained checkpoint serves), predicted PSNR ? dB\n", Report());
            Transport.Says(Wire.Answer(0, 2).Replace("telea", "v0007"));
            Client.Poll();
            StringAssert.EndsWith("\nmodel v0007, predicted PSNR ? dB\n", Report());
        }

        [Test]
        public void ThatNoKeyframesAreWantedIsToldWithBothReasons()
        {
            Client.Start();
            Transport.State = TransportState.Open;
            Transport.Says(Wire.Ack().Replace("\"keyframe_interval\":3", "\"keyframe_interval\":0"));
            Client.Poll();
            StringAssert.EndsWith(
                "\nthe server asks for no keyframes: the picture is above its server.max_keyframe_pixels, or its server.keyframe_interval is 0\n", Report());
        }
    }
}
