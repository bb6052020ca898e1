using UnityEngine;

namespace Sgaps.Client
{
    /// <summary>
    /// What SGAPSDebugPanel shows, by IMGUI. A component of its own because IMGUI runs, and makes garbage, in every frame in
    /// which any component with OnGUI is enabled: this one is, only while the panel is visible.
    /// </summary>
    [AddComponentMenu("")]
    internal sealed class DebugPanelDrawing : MonoBehaviour
    {
        private const float MarginPx = 10;
        private const float PanelWidthPx = 360;

        private readonly SessionPicture _reconstruction = new SessionPicture("reconstruction.png");
        private readonly SessionPicture _importance = new SessionPicture("importance.png");

        internal string Report { private get; set; }

        internal void Poll(NetworkClient client)
        {
            _reconstruction.Poll(client, Time.realtimeSinceStartupAsDouble);
            _importance.Poll(client, Time.realtimeSinceStartupAsDouble);
        }

        private void OnDestroy()
        {
            _reconstruction.Dispose();
            _importance.Dispose();
        }

        private void OnGUI()
        {
            GUILayout.BeginArea(new Rect(MarginPx, MarginPx, PanelWidthPx, Screen.height - 2 * MarginPx), GUI.skin.box);
            GUILayout.Label(Report);
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
