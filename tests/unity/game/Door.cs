using Sgaps.Client;
using Sgaps.Client.Editor;
using UnityEditor;
using UnityEngine;

namespace AGame
{
    /// <summary>A game's own script: both APIs by their short names. A type of ours that is called as one of Unity's ends that (CS0104).</summary>
    public sealed class Door : MonoBehaviour
    {
        public SGAPSManager Manager;
        public Keyframe Opened = new Keyframe(1, 90);

        public string Report
        {
            get { return SessionState.GetBool("told", false) ? "" : SessionReport.Model(Manager.Client.Session); }
        }

        public void Show()
        {
            SGAPSSessionWindow.Open();
        }
    }
}
