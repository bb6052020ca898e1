using UnityEngine;

namespace Sgaps.Client
{
    /// <summary>
    /// A panel over the running game: connection, rates, bytes, model, and the server's pictures. It is on the screen, so
    /// it is captured too: look, then hide it.
    /// </summary>
    [AddComponentMenu("SGAPS/SGAPS Debug Panel")]
    [RequireComponent(typeof(SGAPSManager))]
    public sealed class SGAPSDebugPanel : MonoBehaviour
    {
        private const float TextRefreshSecs = 0.25f;

        // Nobody reads it where the legacy input manager is off.
#pragma warning disable 0414
        [SerializeField, Tooltip("Shows and hides the panel. Projects with the new input system alone call Toggle().")]
        private KeyCode toggleKey = KeyCode.F8;
#pragma warning restore 0414

        [SerializeField, Tooltip("Show the panel from the start.")]
        private bool isVisible;

        private SGAPSManager _manager;
        private DebugPanelDrawing _drawing;
        private float _nextTextAtSecs;

        /// <summary>Whether the panel is on the screen, from the next Update on.</summary>
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
            _drawing = gameObject.AddComponent<DebugPanelDrawing>();
            _drawing.enabled = false;
        }

        private void OnDisable()
        {
            _drawing.enabled = false;
        }

        private void OnDestroy()
        {
            Destroy(_drawing);
        }

        private void Update()
        {
#if ENABLE_LEGACY_INPUT_MANAGER
            if (Input.GetKeyDown(toggleKey)) Toggle();
#endif
            _drawing.enabled = isVisible;
            if (!isVisible) return;
            _drawing.Poll(_manager.Client);
            if (Time.unscaledTime < _nextTextAtSecs) return;
            _nextTextAtSecs = Time.unscaledTime + TextRefreshSecs;
            _drawing.Report = _manager.Report;
        }
    }
}
