using System;
using NUnit.Framework;
using UnityEngine;

namespace Sgaps.Client.Editor.Tests
{
    /// <summary>For Unity's Test Framework: what needs the engine. Elsewhere these are compiled, not run.</summary>
    public class SGAPSManagerTests
    {
        private GameObject _scene;
        private SGAPSManager _manager;

        [SetUp]
        public void SetUp()
        {
            _scene = new GameObject("SGAPS");
            _manager = _scene.AddComponent<SGAPSManager>();
        }

        [TearDown]
        public void TearDown()
        {
            _manager.Disconnect();
            UnityEngine.Object.DestroyImmediate(_scene);
        }

        [Test]
        public void ANewComponentIsValid()
        {
            Assert.That(SessionConfig.ProblemWithEndpoint(_manager.Endpoint), Is.Null);
            Assert.That(SessionConfig.ProblemWithKey(_manager.CheckpointKey), Is.Null);
            Assert.That(_manager.IsStreaming, Is.False);
        }

        [Test]
        public void AWrongEndpointIsNamedAndNothingRuns()
        {
            _manager.Endpoint = "http://127.0.0.1";
            Assert.Throws<ArgumentException>(() => _manager.Connect());
            Assert.That(_manager.CaptureHandler, Is.Null);
        }

        [Test]
        public void TheShadersAreInThePackage()
        {
            Assert.That(Resources.Load<ComputeShader>("Sgaps/Gather"), Is.Not.Null);
            Assert.That(Resources.Load<Shader>("Sgaps/Luma"), Is.Not.Null);
        }

        [Test]
        public void TheInspectorIsThePackages()
        {
            var inspector = UnityEditor.Editor.CreateEditor(_manager);
            Assert.That(inspector, Is.InstanceOf<SGAPSManagerEditor>());
            UnityEngine.Object.DestroyImmediate(inspector);
        }

        [Test]
        public void ThePanelBringsItsManagerAndIsHidden()
        {
            var panel = new GameObject("panel").AddComponent<SGAPSDebugPanel>();
            Assert.That(panel.GetComponent<SGAPSManager>() != null);
            Assert.That(panel.IsVisible, Is.False);
            panel.Toggle();
            Assert.That(panel.IsVisible);
            UnityEngine.Object.DestroyImmediate(panel.gameObject);
        }
    }
}
