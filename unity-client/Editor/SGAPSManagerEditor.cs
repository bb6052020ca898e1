using System.Collections;
using Sgaps.Client;
using UnityEditor;
using UnityEngine;

namespace Sgaps.Client.Editor
{
    /// <summary>The inspector of SGAPSManager: says what is wrong before anything is started, tests the gateway, and shows the running session.</summary>
    [CustomEditor(typeof(SGAPSManager))]
    public sealed class SGAPSManagerEditor : UnityEditor.Editor
    {
        private readonly GatewayTest _test = new GatewayTest(() => EditorApplication.timeSinceStartup);

        /// <inheritdoc/>
        public override void OnInspectorGUI()
        {
            DrawDefaultInspector();
            var manager = (SGAPSManager)target;
            var isRight = DrawProblem(SessionConfig.ProblemWithEndpoint(manager.Endpoint));
            isRight &= DrawProblem(SessionConfig.ProblemWithKey(manager.CheckpointKey));
            EditorGUILayout.Space();
            DrawButtons(manager, isRight);
            EditorGUILayout.HelpBox(_test.Report, MessageType.None);
            if (Application.isPlaying) EditorGUILayout.HelpBox(manager.Report, MessageType.None);
        }

        /// <summary>Live figures and a running test change without any input.</summary>
        public override bool RequiresConstantRepaint()
        {
            return Application.isPlaying || _test.IsRunning;
        }

        private void OnEnable()
        {
            EditorApplication.update += _test.Poll;
        }

        private void OnDisable()
        {
            EditorApplication.update -= _test.Poll;
            _test.Dispose();
        }

        private static bool DrawProblem(string problem)
        {
            if (problem != null) EditorGUILayout.HelpBox(problem, MessageType.Error);
            return problem == null;
        }

        private void DrawButtons(SGAPSManager manager, bool isRight)
        {
            EditorGUILayout.BeginHorizontal();
            using (new EditorGUI.DisabledScope(!isRight))
            {
                if (GUILayout.Button("Test gateway")) _test.Start(manager.Endpoint, manager.CheckpointKey, manager.AuthToken);
                using (new EditorGUI.DisabledScope(!Application.isPlaying)) DrawConnect(manager);
            }
            if (GUILayout.Button("Pictures")) SGAPSSessionWindow.Open();
            EditorGUILayout.EndHorizontal();
        }

        private static void DrawConnect(SGAPSManager manager)
        {
            var isRunning = manager.CaptureHandler != null;
            if (!GUILayout.Button(isRunning ? "Disconnect" : "Connect")) return;
            if (isRunning) manager.Disconnect();
            else manager.StartCoroutine(ConnectInNextFrame(manager));
        }

        // While the inspector is drawn, Screen is the inspector's window.
        private static IEnumerator ConnectInNextFrame(SGAPSManager manager)
        {
            yield return null;
            manager.Connect();
        }
    }
}
