using Sgaps.Client;
using UnityEngine;

namespace Sgaps.Samples
{
    /// <summary>Streams this scene and tells the server the camera's pose and how far the player is from a target. Put it on the player.</summary>
    public sealed class PlayerState : MonoBehaviour
    {
        [SerializeField, Tooltip("The scene's, where it is left empty.")]
        private SGAPSManager manager;

        [SerializeField, Tooltip("What the picture is seen through; the main camera, where it is left empty.")]
        private Camera view;

        [SerializeField, Tooltip("What the player is after; may be empty, and may be destroyed.")]
        private Transform target;

        private void Start()
        {
            if (manager == null) manager = FindObjectOfType<SGAPSManager>();
            if (view == null) view = Camera.main;
            if (manager == null || view == null)
            {
                Debug.LogError(manager == null ? "there is no SGAPS Manager in the scene" : "no camera has the tag MainCamera: set View", this);
                enabled = false;
                return;
            }
            manager.SessionStarted += ack => Debug.Log("streaming as session " + ack.SessionId + ", model " + ack.ModelVersion);
            manager.SessionRefused += error => Debug.LogError("not streaming: " + error.Message);
        }

        // The same values in the same order in each frame; the manager empties them at its end.
        private void LateUpdate()
        {
            if (!manager.isActiveAndEnabled) return;
            var eye = view.transform;
            manager.State.AddValue(eye.position.x);                            // east
            manager.State.AddValue(eye.position.z);                            // north
            manager.State.AddValue(eye.position.y);                            // up
            manager.State.AddValue(90 - eye.eulerAngles.y);                    // yaw in degrees: from east, anticlockwise
            manager.State.AddValue(-Mathf.DeltaAngle(0, eye.eulerAngles.x));   // pitch: above the horizon
            if (target != null) manager.State.AddValue(Vector3.Distance(transform.position, target.position));
            else manager.State.AddMissing();
        }
    }
}
