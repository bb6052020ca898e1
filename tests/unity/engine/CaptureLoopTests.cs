using System;
using System.Collections.Generic;
using System.Reflection;
using NUnit.Framework;
using UnityEngine;

namespace Sgaps.Client.EngineTests
{
    /// <summary>SGAPSManager where Unity's part is played by the test. There is no such server, and no socket: Mono may end where one is closed while it connects.</summary>
    public class CaptureLoopTests
    {
        private const string Endpoint = "ws://sgaps.invalid/ws/stream";

        private const BindingFlags Private = BindingFlags.NonPublic | BindingFlags.Instance;

        private SGAPSManager _manager;

        [SetUp]
        public void SetUp()
        {
            Stub.ScreenWidth = 64;
            Stub.Logged.Clear();
            Stub.ResponseText = "";
            _manager = new SGAPSManager { Endpoint = Endpoint };
            Stub.Enable(_manager);
        }

        [TearDown]
        public void TearDown()
        {
            _manager.Disconnect();
        }

        [Test]
        public void CodeSetsUpAComponentThatItAddsBeforeTheFirstConnection()
        {
            Assert.That(_manager.Client, Is.Null, "other scripts start first");
            _manager.CheckpointKey = "another";
            _manager.AuthToken = "open sesame";
            _manager.MaxCaptureHeight = 24;
            Call(_manager, "Update");
            var config = _manager.Client.Config;
            Assert.That(new[] { config.CheckpointKey, config.AuthToken }, Is.EqualTo(new[] { "another", "open sesame" }));
            Assert.That(config.Height, Is.EqualTo(24));
        }

        [Test]
        public void WhatCodeBeganBeforeTheFirstUpdateGoesOn()
        {
            _manager.Connect();
            var client = _manager.Client;
            Call(_manager, "Update");
            Assert.That(_manager.Client, Is.SameAs(client));
        }

        [Test]
        public void WhatTheAwakeOfAnotherScriptBeganGoesOn()
        {
            _manager = new SGAPSManager { Endpoint = Endpoint };
            Assert.That(_manager.isActiveAndEnabled, Is.False, "the load of the scene is not that far");
            _manager.Connect();
            var client = _manager.Client;
            Stub.Enable(_manager);
            Call(_manager, "Update");
            Assert.That(_manager.Client, Is.SameAs(client));
            Assert.That(client.IsRunning);
        }

        [Test]
        public void AComponentThatIsOffDoesNotConnectUntilItIsOnAgain()
        {
            _manager.Connect();
            Stub.Disable(_manager);
            Assert.That(_manager.Client.IsRunning, Is.False);
            Assert.Throws<InvalidOperationException>(() => _manager.Connect());
            Stub.Enable(_manager);
            Call(_manager, "Update");
            Assert.That(_manager.Client.IsRunning);
            _manager.gameObject.SetActive(false);
            Assert.Throws<InvalidOperationException>(() => _manager.Connect());
        }

        [Test]
        public void CodeMayTurnAutoConnectOffUntilTheFirstUpdate()
        {
            _manager.AutoConnect = false;
            Call(_manager, "Update");
            _manager.AutoConnect = true;
            Call(_manager, "Update");
            Assert.That(_manager.Client, Is.Null);
        }

        [Test]
        public void APictureThatIsNotFoundIsLookedForWhereTheReportSays()
        {
            _manager.Endpoint = "wss://sgaps.invalid/sgaps/ws/stream";
            Assert.That(StatusOfPicture(404), Is.EqualTo("no picture yet, or no gateway at https://sgaps.invalid/sgaps"));
        }

        [Test]
        public void ThePictureOfAGatewayThatRefusesItBringsWhatToDo()
        {
            Stub.ResponseText = "{\"detail\":\"set server.auth_token_file\"}";
            Assert.That(StatusOfPicture(403), Is.EqualTo("HTTP/1.1 403: {\"detail\":\"set server.auth_token_file\"}"));
            Stub.ResponseText = new string('x', 5000);
            Assert.That(StatusOfPicture(502), Is.EqualTo("HTTP/1.1 502: " + new string('x', 300)), "the page of a proxy is cut");
        }

        [Test]
        public void AnotherSizeOfTheScreenStartsAnotherSession()
        {
            _manager.Connect();
            Resize(80);
            Assert.That(_manager.CaptureHandler.Width, Is.EqualTo(80));
            Assert.That(Stub.Logged, Is.Empty);
        }

        [Test]
        public void ARestartThatFailsEndsTheSessionAndNotTheLoop()
        {
            _manager.Connect();
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
            _manager.Connect();
            var capture = _manager.CaptureHandler;
            _manager.CheckpointKey = "a/b";
            Assert.Throws<ArgumentException>(() => _manager.Connect());
            Assert.That(_manager.Client.IsRunning);
            Assert.That(_manager.CaptureHandler, Is.SameAs(capture));
        }

        [Test]
        public void AnotherSizeOfTheScreenWaitsForThePauseBetweenTwoTries()
        {
            _manager.Connect();
            var client = _manager.Client;
            Call(client, "Lose", "cut", 0.0);
            Resize(80);
            Assert.That(client.State, Is.EqualTo(ConnectionState.Waiting));
            Assert.That(_manager.Client, Is.SameAs(client));
            Call(client, "Connect");
            Assert.That(client.State, Is.EqualTo(ConnectionState.Connecting));
            EndFrame();
            Assert.That(_manager.CaptureHandler.Width, Is.EqualTo(80));
        }

        [TestCase(CoordinateSource.UniformGrid)]
        [TestCase(CoordinateSource.Checkerboard)]
        public void AFixedPatternIsMadeAnewWhereTheServerWantsAnotherNumberOfSamples(CoordinateSource source)
        {
            _manager.CoordinateSource = source;
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

        // Of a session whose pictures are answered with this code.
        private string StatusOfPicture(long responseCode)
        {
            _manager.Connect();
            var account = Activator.CreateInstance(typeof(SessionAccount), Private, null, new object[] { "s-1" }, null);
            typeof(SessionStatus).GetProperty("Account").SetValue(_manager.Client.Session, account, null);
            Stub.ResponseCode = responseCode;
            var picture = new SessionPicture("reconstruction.png");
            picture.Poll(_manager.Client, 1);
            picture.Poll(_manager.Client, 1);
            return picture.Status;
        }

        // What the next frame is sampled at, after a start that was acknowledged with so many samples.
        private UVCoordinates Own(int sampleCount)
        {
            typeof(SessionStatus).GetProperty("SampleCount").SetValue(_manager.Client.Session, sampleCount, null);
            return (UVCoordinates)Call(_manager, "Coordinates");
        }

        private static object Call(object target, string method, params object[] arguments)
        {
            return target.GetType().GetMethod(method, Private).Invoke(target, arguments);
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
