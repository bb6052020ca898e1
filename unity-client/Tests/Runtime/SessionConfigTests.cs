using System;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    public class SessionConfigTests : ClientFixture
    {
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

        [TestCase(null, null)]
        [TestCase("", null)]
        [TestCase("open sesame", "Bearer open sesame")]
        public void TheTokenGoesWithRequestsForPictures(string token, string header)
        {
            var config = Config();
            config.AuthToken = token;
            Assert.That(config.HttpAuthorization, Is.EqualTo(header));
        }
    }
}
