using System;
using System.Collections.Generic;
using System.Reflection;
using System.Threading;
using NUnit.Framework;
using UnityEngine;

namespace Sgaps.Client.EngineTests
{
    /// <summary>SGAPSManager where Unity's part is played by the test. No server listens: it comes back again and again.</summary>
    public class CaptureLoopTests
    {
        private const string Endpoint = "ws://127.0.0.1:1/ws/stream";

        private const BindingFlags Private = BindingFlags.NonPublic | BindingFlags.Instance;

        private SGAPSManager _manager;

        [SetUp]
        public void SetUp()
        {
            Stub.ScreenWidth = 64;
            Stub.Logged.Clear();
            _manager = new SGAPSManager { Endpoint = Endpoint };
            typeof(SGAPSManager).GetMethod("OnEnable", Private).Invoke(_manager, null);
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
        public void AnotherSizeOfTheScreenWaitsForThePauseBetweenTwoTries()
        {
            var client = _manager.Client;
            for (var i = 0; i < 1000 && client.State != ConnectionState.Waiting; i++)
            {
                Thread.Sleep(10);
                client.Poll();
            }
            Resize(80);
            Assert.That(client.State, Is.EqualTo(ConnectionState.Waiting));
            Assert.That(_manager.Client, Is.SameAs(client));
            client.Poll();
            Assert.That(client.State, Is.EqualTo(ConnectionState.Connecting));
            EndFrame();
            Assert.That(_manager.CaptureHandler.Width, Is.EqualTo(80));
        }

        [TestCase(CoordinateSource.UniformGrid)]
        [TestCase(CoordinateSource.Checkerboard)]
        public void AFixedPatternIsMadeAnewWhereTheServerWantsAnotherNumberOfSamples(CoordinateSource source)
        {
            typeof(SGAPSManager).GetField("coordinateSource", Private).SetValue(_manager, source);
            _manager.Connect();
            var ofBefore = Own(20);
            Assert.That(ofBefore.Coords.Length, Is.EqualTo(20));
            Assert.That(Own(20), Is.SameAs(ofBefore));
            Assert.That(Own(12).Coords.Length, Is.EqualTo(12));
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

        // What the next frame is sampled at, after a start that was acknowledged with so many samples.
        private UVCoordinates Own(int sampleCount)
        {
            typeof(SessionState).GetProperty("SampleCount").SetValue(_manager.Client.Session, sampleCount, null);
            return (UVCoordinates)typeof(SGAPSManager).GetMethod("Coordinates", Private).Invoke(_manager, null);
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
