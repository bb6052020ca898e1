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

        [TestCase("ws://127.0.0.1:1/ws/stream", "http://127.0.0.1:1")]
        [TestCase("wss://example.org/ws/stream", "https://example.org")]
        [TestCase("wss://example.org/sgaps/ws/stream", "https://example.org/sgaps")]
        [TestCase("wss://example.org/another", "https://example.org")]
        public void TheHttpAddressFollowsFromTheEndpoint(string endpoint, string expected)
        {
            var config = Config();
            config.Endpoint = endpoint;
            Assert.That(config.HttpAddress, Is.EqualTo(expected));
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
