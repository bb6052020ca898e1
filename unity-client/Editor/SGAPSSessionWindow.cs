using Sgaps.Client;
using UnityEditor;
using UnityEngine;

namespace Sgaps.Client.Editor
{
    /// <summary>The pictures of the running session: what the server rebuilds, and where it wants to look next.</summary>
    public sealed class SGAPSSessionWindow : EditorWindow
    {
        private SessionPicture _reconstruction;
        private SessionPicture _importance;
        private SGAPSManager _manager;

        /// <summary>Show the window.</summary>
        [MenuItem("Window/SGAPS/Session")]
        public static void Open()
        {
            GetWindow<SGAPSSessionWindow>("SGAPS session");
        }

        private void OnEnable()
        {
            _reconstruction = new SessionPicture("reconstruction.png");
            _importance = new SessionPicture("importance.png");
        }

        private void OnDisable()
        {
            _reconstruction.Dispose();
            _importance.Dispose();
        }

        private void Update()
        {
            if (!Application.isPlaying) return;
            if (_manager == null) _manager = FindObjectOfType<SGAPSManager>();
            if (_manager == null) return;
            _reconstruction.Poll(_manager.Client, EditorApplication.timeSinceStartup);
            _importance.Poll(_manager.Client, EditorApplication.timeSinceStartup);
            Repaint();
        }

        private void OnGUI()
        {
            if (!Application.isPlaying || _manager == null)
            {
                EditorGUILayout.HelpBox("Enter play mode in a scene with an SGAPS Manager.", MessageType.Info);
                return;
            }
            EditorGUILayout.HelpBox(_manager.Report, MessageType.None);
            Draw("Reconstruction", _reconstruction);
            Draw("Importance", _importance);
        }

        private static void Draw(string title, SessionPicture picture)
        {
            EditorGUILayout.LabelField(title, picture.Status);
            if (picture.Texture == null) return;
            var aspect = (float)picture.Texture.width / picture.Texture.height;
            GUI.DrawTexture(GUILayoutUtility.GetAspectRect(aspect), picture.Texture, ScaleMode.ScaleToFit);
        }
    }
}
