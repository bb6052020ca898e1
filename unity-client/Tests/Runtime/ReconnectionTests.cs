using System;
using System.Collections.Generic;
using System.Linq;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    public class ReconnectionTests : ClientFixture
    {
        [Test]
        public void ALostConnectionIsResumedAndItsFramesAreBooked()
        {
            Connect();
            for (var i = 0; i < 5; i++) Send();
            Transport.Breaks("cut");
            Client.Poll();
            Assert.That(Lost, Is.EqualTo(new[] { "cut" }));
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Waiting));
            Assert.That(Send(), Is.EqualTo(SendResult.NotConnected));
            Assert.That(Client.Session.FramesDropped, Is.EqualTo(1));
            Wait(0.05);
            Assert.That(Transports.Count, Is.EqualTo(1), "not before the pause is over");
            Wait(0.2);
            Connect(resumed: true, lastFrameId: 2);
            StringAssert.Contains("\"resume_session_id\":\"s-1\"", Transport.SentText(0));
            var account = Client.Session.Account;
            Assert.That(new long[] { account.Resumed, account.Lost, account.Accepted, account.NextFrameId }, Is.EqualTo(new long[] { 1, 2, 3, 5 }));
            Assert.That(Transports[0].IsDisposed);
        }

        [Test]
        public void PausesGrowAndAreNotTheSame()
        {
            var pausesSecs = new List<double>();
            Client.Start();
            for (var i = 0; i < 9; i++)
            {
                Transport.Breaks("nobody listens");
                Client.Poll();
                var began = NowSecs;
                while (Client.State == ConnectionState.Waiting) Wait(0.01);
                pausesSecs.Add(NowSecs - began);
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
            Client.Poll();
            Assert.That(Client.Session.Account.Lost, Is.EqualTo(1));
            Wait(1);
            Connect(sessionId: "s-2");
            StringAssert.DoesNotContain("resume", Transport.SentText(0));
            Assert.That(Client.Session.SessionsStarted, Is.EqualTo(2));
            Assert.That(Client.Session.Account.SessionId, Is.EqualTo("s-2"));
        }

        [Test]
        public void ValuesOfAnEarlierConnectionAreNotSentUnderThisOne()
        {
            Connect();
            var old = Client.Session.Coordinates;
            Transport.Breaks("cut");
            Wait(0);
            Wait(1);
            Connect(resumed: true);
            Assert.That(Send(old), Is.EqualTo(SendResult.StaleCoordinates));
            Assert.That(Send(), Is.EqualTo(SendResult.Sent));
        }

        [Test]
        public void AServerThatStopsIsComeBackTo()
        {
            Connect();
            Transport.Says(Wire.Error("shutting_down", true, "1"));
            Transport.Breaks("1001");
            Client.Poll();
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Waiting));
            Assert.That(Client.IsRunning);
            Wait(0.9);
            Assert.That(Transports.Count, Is.EqualTo(1));
            Wait(0.31);
            Assert.That(Transports.Count, Is.EqualTo(2));
        }

        [Test]
        public void APauseLastsThoughTheClientIsStoppedAndStarted()
        {
            Connect();
            Transport.Says(Wire.Error("shutting_down", true, "3"));
            Client.Poll();
            Client.Stop();
            Wait(1);
            Client.Start();
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Waiting));
            Wait(1.9);
            Assert.That(Transports.Count, Is.EqualTo(1));
            Wait(0.4);
            Assert.That(Transports.Count, Is.EqualTo(2));
            Client.Stop();
            Client.Start();
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Connecting), "it is over");
        }

        [Test]
        public void ThoseWhoWereToldTheSamePauseDoNotComeBackAsOne()
        {
            var pausesSecs = new List<double>();
            for (var seed = 0; seed < 20; seed++)
            {
                SetUp();
                Use(Config(), seed);
                Connect();
                Transport.Says(Wire.Error("shutting_down", true, "1"));
                Client.Poll();
                var beganSecs = NowSecs;
                while (Client.State == ConnectionState.Waiting) Wait(0.001);
                pausesSecs.Add(NowSecs - beganSecs);
            }
            Assert.That(pausesSecs, Is.All.InRange(1.1, 1.202));
            Assert.That(pausesSecs.Max() - pausesSecs.Min(), Is.GreaterThan(0.05));
        }

        [TestCase("unauthorized")]
        [TestCase("session_taken_over")]
        public void ARefusalForGoodEndsTheClient(string code)
        {
            ProtocolException told = null;
            Client.SessionRefused += error => told = error;
            Assert.That(Client.IsRunning, Is.False);
            Client.Start();
            Assert.That(Client.IsRunning);
            Transport.State = TransportState.Open;
            Transport.Says(Wire.Error(code, true));
            Client.Poll();
            Wait(60);
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Refused));
            Assert.That(Client.IsRunning, Is.False);
            Assert.That(told.Code, Is.EqualTo(code));
            Assert.That(Transports.Count, Is.EqualTo(1));
        }

        [TestCase("s-1", 1, null)]
        [TestCase("s-1", 2, "bad_message")]
        [TestCase("s-2", 1, "bad_message")]
        public void AResumedSessionMustBeTheOneThatWasBegun(string sessionId, long lastFrameId, string code)
        {
            Connect();
            Send();
            Send();
            Transport.Breaks("cut");
            Wait(0);
            Wait(1);
            Transport.State = TransportState.Open;
            Transport.Says(Wire.Ack(true, lastFrameId, sessionId));
            Client.Poll();
            Assert.That(Client.Refusal == null ? null : Client.Refusal.Code, Is.EqualTo(code));
        }

        [Test]
        public void ASilentServerIsLeft()
        {
            Connect();
            WaitPolling(9);
            Transport.Says(Wire.Answer(0, 2));
            WaitPolling(5);
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Streaming));
            WaitPolling(6);
            Assert.That(Lost, Is.EqualTo(new[] { "the server says nothing" }));
        }

        [Test]
        public void AServerIsAskedAfterAPauseOfTheGameBeforeItIsLeft()
        {
            Connect();
            AnswerHeartbeats();
            Wait(60);
            StringAssert.Contains("heartbeat", LastSent());
            AnswerHeartbeats();
            WaitPolling(9);
            Assert.That(Lost, Is.Empty);
            WaitPolling(1);
            Assert.That(Lost, Is.EqualTo(new[] { "the server says nothing" }));
        }

        [Test]
        public void ASilentServerIsLeftByAGameThatIsSeldomPolled()
        {
            Connect();
            for (var i = 0; i < 10; i++) Wait(60);
            Assert.That(Lost, Is.EqualTo(new[] { "the server says nothing" }));
        }

        [Test]
        public void AClientThatWasStoppedForLongWaitsForItsStartNoLonger()
        {
            Connect();
            Client.Stop();
            NowSecs += 3600;
            Client.Start();
            WaitPolling(10);
            Assert.That(Lost, Is.EqualTo(new[] { "the server says nothing" }));
        }

        [Test]
        public void AHandlerMayStopTheClient()
        {
            Connect();
            Client.CoordinatesReceived += _ => Client.Stop();
            Transport.Says(Wire.Answer(0, 2));
            Transport.Says(Wire.Answer(1, 4));
            Client.Poll();
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Stopped));
            Client.Start();
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Connecting));
        }

        [Test]
        public void PausesBeginAnewAfterASession()
        {
            Client.Start();
            for (var i = 0; i < 6; i++)
            {
                Transport.Breaks("nobody listens");
                Wait(0);
                Wait(6);
            }
            Connect();
            WaitPolling(5);
            Transport.Breaks("cut");
            Wait(0);
            Wait(0.21);
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Connecting));
        }

        [Test]
        public void PausesGrowWhereSessionsBeginAndEndAtOnce()
        {
            var began = NowSecs;
            while (NowSecs < began + 60)
            {
                Connect(resumed: Transports.Count > 1);
                Transport.Says(Wire.Error("internal", true));
                Client.Poll();
                while (Client.State == ConnectionState.Waiting) Wait(0.01);
            }
            Assert.That(Transports.Count, Is.InRange(12, 30), "5 s at most, half of it at least, but for the first few");
        }
    }
}
