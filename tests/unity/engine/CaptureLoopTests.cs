using System;
using System.Collections.Generic;
using System.Reflection;
using NUnit.Framework;
using UnityEngine;

namespace Sgaps.Client.EngineTests
{
    /// <summary>SGAPSManager where Unity's part is played by the test. No server listens: it comes back again and again.</summary>
    public class CaptureLoopTests
    {
        private const string Endpoint = "ws://127.0.0.1:1/ws/stream";

        private SGAPSManager _manager;

        [SetUp]
        public void SetUp()
        {
            Stub.ScreenWidth = 64;
            Stub.Logged.Clear();
            _manager = new SGAPSManager { Endpoint = Endpoint };
            typeof(SGAPSManager).GetMethod("OnEnable", BindingFlags.NonPublic | BindingFlags.Instance).Invoke(_manager, null);
        }

        [TearDown]
        public void TearDown()
        {
            _manager.Disconnect();
        }

        [Test]
        public void AnotherSizeOfTheScreenStartsAnotherSession()
        {
            Resize(80);
            Assert.That(_manager.CaptureHandler.Width, Is.EqualTo(80));
            Assert.That(Stub.Logged, Is.Empty);
        }

        [Test]
        public void ARestartThatFailsEndsTheSessionAndNotTheLoop()
        {
            _manager.Endpoint = "nowhere";
            Resize(80);
            EndFrame();
            Assert.That(Stub.Logged.ConvertAll(error => error.GetType()), Is.EqualTo(new[] { typeof(ArgumentException) }), "told once");
            Assert.That(_manager.Client.IsRunning, Is.False);
            _manager.Endpoint = Endpoint;
            _manager.Connect();
            Resize(96);
            Assert.That(_manager.CaptureHandler.Width, Is.EqualTo(96));
        }

        [Test]
        public void ConnectWithAWrongSettingLeavesTheSessionThatRuns()
        {
            var capture = _manager.CaptureHandler;
            _manager.CheckpointKey = "a/b";
            Assert.Throws<ArgumentException>(() => _manager.Connect());
            Assert.That(_manager.Client.IsRunning);
            Assert.That(_manager.CaptureHandler, Is.SameAs(capture));
        }

        [Test]
        public void ValuesOfAFrameThatNeverEndsAreForgotten()
        {
            for (var i = 0; i < 2 * ProtocolLimits.MaxStateDim; i++)
            {
                Stub.Frame++;
                _manager.State.AddValue(i);
                _manager.State.AddValue(i);
            }
            Assert.That(_manager.State.ToArray(), Is.EqualTo(new float[] { 8191, 8191 }));
        }

        private void Resize(int width)
        {
            Stub.ScreenWidth = width;
            EndFrame();
            Stub.NowSecs += 1;
            EndFrame();
        }

        private void EndFrame()
        {
            _manager.State.AddValue(1);
            Assert.That(Stub.Coroutine.MoveNext());
            Assert.That(_manager.State.Count, Is.EqualTo(0));
        }
    }
}
