using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    /// <summary>What is counted of frames that were refused while the connection broke.</summary>
    public class SessionAccountTests : ClientFixture
    {
        [Test]
        public void ARefusedFrameThatWasStoredAfterAllIsAccepted()
        {
            Connect();
            for (var i = 0; i < 2; i++) Send();
            Transport.Says(Wire.Error("overloaded", false, "0"));
            Client.Poll();
            Assert.That(Client.Session.Account.Refused, Is.EqualTo(1));
            ComesBack(lastFrameId: 1);
            var account = Client.Session.Account;
            Assert.That(new long[] { account.Refused, account.Lost, account.Accepted }, Is.EqualTo(new long[] { 0, 0, 2 }));
        }

        [Test]
        public void WhatHeartbeatsWereRefusedForIsForgivenWhenTheConnectionBreaks()
        {
            Connect();
            for (var i = 0; i < 30; i++) Send();
            for (var i = 0; i < 3; i++)
            {
                Wait(1.1);
                Transport.Says(Wire.Error("overloaded", false, "0"));
                Client.Poll();
            }
            Assert.That(Client.Session.Account.Refused, Is.EqualTo(3));
            ComesBack(lastFrameId: 29);
            Assert.That(Client.Session.Account.Refused, Is.EqualTo(0));
            Assert.That(Client.Session.Account.Accepted, Is.EqualTo(30));
        }

        [Test]
        public void WhatNoHeartbeatCanHaveBeenRefusedForIsNotForgiven()
        {
            Connect();
            AnswerHeartbeats();
            for (var i = 0; i < 30; i++) Send();
            Transport.Says(Wire.Error("overloaded", false, "0"));
            Client.Poll();
            Send();
            Wait(1.1);
            ComesBack(lastFrameId: 30);
            Assert.That(Client.Session.Account.Refused, Is.EqualTo(1), "no heartbeat was unanswered when it came");
        }

        [Test]
        public void AHeartbeatsAnswerSettlesWhatWasRefusedBeforeIt()
        {
            Connect();
            Send();
            Transport.Says(Wire.Error("overloaded", false, "0"));
            AnswerHeartbeats();
            Send();
            Wait(1.1);
            ComesBack(lastFrameId: 1);
            Assert.That(Client.Session.Account.Refused, Is.EqualTo(1));
        }

        [Test]
        public void ARefusedStartRefusesNoFrame()
        {
            Connect();
            for (var i = 0; i < 5; i++) Send();
            Transport.Breaks("cut");
            Wait(0);
            for (var i = 0; i < 3; i++)
            {
                Wait(6);
                Transport.State = TransportState.Open;
                Transport.Says(Wire.Error("overloaded", true, "1"));
                Client.Poll();
            }
            Assert.That(Lost, Is.EqualTo(new[] { "cut", "overloaded: m", "overloaded: m", "overloaded: m" }));
            Wait(6);
            Connect(resumed: true, lastFrameId: 4);
            Assert.That(Client.Session.Account.Refused, Is.EqualTo(0));
            Assert.That(Client.Session.Account.Accepted, Is.EqualTo(5));
        }

        private void ComesBack(long lastFrameId)
        {
            Transport.Breaks("cut");
            Wait(0);
            Wait(1);
            Connect(resumed: true, lastFrameId: lastFrameId);
        }
    }
}
