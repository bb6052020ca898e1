using Sgaps.Client;
using UnityEngine;

namespace Sgaps.Samples
{
    /// <summary>Streams this scene and tells the server where the player is. Put it on the player.</summary>
    public sealed class PlayerState : MonoBehaviour
    {
        [SerializeField, Tooltip("The scene's, where it is left empty.")]
        private SGAPSManager manager;

        [SerializeField, Tooltip("What the player is after; may be empty, and may be destroyed.")]
        private Transform target;

        private void Start()
        {
            if (manager == null) manager = FindObjectOfType<SGAPSManager>();
            if (manager == null)
            {
                Debug.LogError("there is no SGAPS Manager in the scene", this);
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
            var position = transform.position;
            manager.State.AddValue(position.x);
            manager.State.AddValue(position.y);
            manager.State.AddValue(position.z);
            manager.State.AddValue(transform.eulerAngles.y);
            if (target != null) manager.State.AddValue(Vector3.Distance(position, target.position));
            else manager.State.AddMissing();
        }
    }
}
