using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    /// <summary>What a client makes of what it is sent: refusals, floods, and what it cannot read.</summary>
    public class ReceivingTests : ClientFixture
    {
        // Before a single poll the connection was open, the server has spoken, and it is closed.
        private void RefusedAtOnce(string code, string retryAfterSecs = "null")
        {
            Client.Start();
            Transport.Says(Wire.Error(code, true, retryAfterSecs));
            Transport.Breaks("1008");
            Client.Poll();
        }

        [Test]
        public void ARefusalThatComesTogetherWithTheCloseIsFinal()
        {
            RefusedAtOnce("origin_refused");
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Refused));
            Assert.That(Client.Refusal.Message, Is.EqualTo("origin_refused: m"));
            Assert.That(Lost, Is.Empty);
            Assert.That(Transport.Sent, Is.Empty, "there is nobody to start a session with");
        }

        [Test]
        public void APauseThatIsAskedForTogetherWithTheCloseIsKept()
        {
            RefusedAtOnce("too_many_sessions", "30");
            Assert.That(Lost, Is.EqualTo(new[] { "too_many_sessions: m" }));
            WaitPolling(30);
            Assert.That(Transports.Count, Is.EqualTo(1));
            WaitPolling(1);
            Assert.That(Transports.Count, Is.EqualTo(2));
        }

        [Test]
        public void AServerThatDoesNotEvenAnswerIsLeft()
        {
            Client.Start();
            WaitPolling(9);
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Connecting));
            WaitPolling(1);
            Assert.That(Lost, Is.EqualTo(new[] { "the server says nothing" }));
            Assert.That(Transport.Sent, Is.Empty);
        }

        [Test]
        public void AServerThatTalksFasterThanTheGameReadsDoesNotStopIt()
        {
            Connect();
            for (var i = 0; i < 100; i++) Transport.Says(Wire.Answer(i, i));
            Client.Poll();
            Assert.That(Client.Session.Account.Answered, Is.EqualTo(64));
            Client.Poll();
            Assert.That(Client.Session.Account.Answered, Is.EqualTo(100));
        }

        [Test]
        public void TheLastWordIsReadHoweverMuchComesBeforeIt()
        {
            Connect();
            for (var i = 0; i < 64; i++) Transport.Says(Wire.Answer(i, i));
            Transport.Says(Wire.Error("session_taken_over", true));
            Transport.Breaks("1008");
            Client.Poll();
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Streaming));
            Client.Poll();
            Assert.That(Client.Refusal.Code, Is.EqualTo("session_taken_over"));
            Assert.That(Lost, Is.Empty);
        }

        [Test]
        public void KindsThatANewerServerMaySendAreIgnored()
        {
            Connect();
            Transport.Says("{\"type\":\"weather\",\"rain\":true}");
            Transport.Says(new byte[] { (byte)'S', (byte)'G', 1, 9, 0, 0 });
            Transport.Says(Wire.Answer(0, 2));
            Client.Poll();
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Streaming));
            Assert.That(Client.Session.Coordinates.SetId, Is.EqualTo(2));
        }

        [Test]
        public void AnotherServersFirstWordIsNoStart()
        {
            Client.Start();
            Transport.State = TransportState.Open;
            Transport.Says("{\"type\":\"hello\"}");
            Client.Poll();
            StringAssert.Contains("the first answer is no session_start_ack", Client.Refusal.Message);
        }

        [Test]
        public void WhatCannotBeReadIsNotToldAsTheServersRefusal()
        {
            Connect();
            Transport.Says("{}");
            Client.Poll();
            Assert.That(Client.State, Is.EqualTo(ConnectionState.Refused));
            Assert.That(Client.Refusal.Code, Is.EqualTo("bad_message"));
            Assert.That(Client.Refusal.Message, Is.EqualTo(
                "the server's message cannot be read (bad_message: message.type: is missing): are package and server of the same version?"));
            Assert.That(Transport.IsDisposed);
        }
    }
}
