using UnityEngine;

namespace Sgaps.Client
{
    /// <summary>
    /// A panel over the running game: connection, rates, bytes, model, and the server's pictures. It is on the screen, so
    /// it is captured too: look, then hide it. IMGUI makes garbage while it is visible, and nothing while it is not.
    /// </summary>
    [AddComponentMenu("SGAPS/SGAPS Debug Panel")]
    [RequireComponent(typeof(SGAPSManager))]
    public sealed class SGAPSDebugPanel : MonoBehaviour
    {
        private const float TextRefreshSecs = 0.25f;
        private const float MarginPx = 10;
        private const float PanelWidthPx = 360;

        [SerializeField, Tooltip("Shows and hides the panel. Projects with the new input system alone call Toggle().")]
        private KeyCode toggleKey = KeyCode.F8;

        [SerializeField, Tooltip("Show the panel from the start.")]
        private bool isVisible;

        private readonly SessionPicture _reconstruction = new SessionPicture("reconstruction.png");
        private readonly SessionPicture _importance = new SessionPicture("importance.png");
        private SGAPSManager _manager;
        private string _report = "";
        private float _nextTextAtSecs;

        /// <summary>Whether the panel is on the screen.</summary>
        public bool IsVisible
        {
            get { return isVisible; }
            set { isVisible = value; }
        }

        /// <summary>Show the panel, or hide it.</summary>
        public void Toggle()
        {
            isVisible = !isVisible;
        }

        private void Awake()
        {
            _manager = GetComponent<SGAPSManager>();
        }

        private void OnDestroy()
        {
            _reconstruction.Dispose();
            _importance.Dispose();
        }

        private void Update()
        {
            if (!isVisible) return;
            _reconstruction.Poll(_manager.Client, Time.realtimeSinceStartupAsDouble);
            _importance.Poll(_manager.Client, Time.realtimeSinceStartupAsDouble);
            if (Time.unscaledTime < _nextTextAtSecs) return;
            _nextTextAtSecs = Time.unscaledTime + TextRefreshSecs;
            _report = _manager.Report;
        }

        private void OnGUI()
        {
            var input = Event.current;
            if (input.type == EventType.KeyDown && input.keyCode == toggleKey) Toggle();
            if (!isVisible) return;
            GUILayout.BeginArea(new Rect(MarginPx, MarginPx, PanelWidthPx, Screen.height - 2 * MarginPx), GUI.skin.box);
            GUILayout.Label(_report);
            Draw("reconstruction", _reconstruction);
            Draw("importance", _importance);
            GUILayout.EndArea();
        }

        private static void Draw(string title, SessionPicture picture)
        {
            GUILayout.Label(title + ": " + picture.Status);
            if (picture.Texture == null) return;
            var aspect = (float)picture.Texture.width / picture.Texture.height;
            GUI.DrawTexture(GUILayoutUtility.GetAspectRect(aspect), picture.Texture, ScaleMode.ScaleToFit);
        }
    }
}
