using UnityEngine;

namespace Sgaps.Client
{
    // What the inspector shows and code sets.
    public sealed partial class SGAPSManager
    {
        [SerializeField, Tooltip("Address of the gateway's socket.")]
        private string endpoint = "ws://127.0.0.1:8000/ws/stream";

        [SerializeField, Tooltip("Names your game: which checkpoint serves it and learns from it.")]
        private string checkpointKey = "my-game";

        [SerializeField, Tooltip("What the server asks for, if it does. It is saved in the scene in plain text.")]
        private string authToken = "";

        [SerializeField, Tooltip("Connect in the first Update after the component is enabled, unless code has by then.")]
        private bool autoConnect = true;

        [SerializeField, Range(0, ProtocolLimits.MaxStateDim), Tooltip("Told to the server as the most that your game adds to a frame. It cuts nothing: how many are sent is the server's own max_state_dim.")]
        private int maxStateDim = 64;

        [SerializeField, Range(16, 2160), Tooltip("A higher screen is scaled down to so many rows before it is sampled. A server refuses pictures of more than its server.max_pixels (4.2 million unless set otherwise) and wants no keyframes of more than its server.max_keyframe_pixels (2.1 million).")]
        private int maxCaptureHeight = 240;

        [SerializeField, Tooltip("Send the whole frames that the server asks for; it learns from them.")]
        private bool sendKeyframes = true;

        [SerializeField, Tooltip("Let the server send its importance map with the coordinates.")]
        private bool wantsImportance;

        [SerializeField, Tooltip("Anything but Server speaks JSON and is for comparisons.")]
        private CoordinateSource coordinateSource = CoordinateSource.Server;

        [SerializeField, Tooltip("Only if the reconstruction in the debug panel is upside down.")]
        private bool flipRows;

        /// <summary>Address of the gateway's socket; the next <see cref="Connect"/> uses it.</summary>
        public string Endpoint { get => endpoint; set => endpoint = value; }

        /// <summary>Which checkpoint serves; the next <see cref="Connect"/> uses it.</summary>
        public string CheckpointKey { get => checkpointKey; set => checkpointKey = value; }

        /// <summary>What the server asks for; the next <see cref="Connect"/> uses it.</summary>
        public string AuthToken { get => authToken; set => authToken = value; }

        /// <summary>Whether the first Update after the component is enabled connects, unless code has by then.</summary>
        public bool AutoConnect { get => autoConnect; set => autoConnect = value; }

        /// <summary>Told to the server as the most state values of a frame; it cuts nothing. The next <see cref="Connect"/> uses it.</summary>
        public int MaxStateDim { get => maxStateDim; set => maxStateDim = value; }

        /// <summary>Rows to which a higher screen is scaled down before it is sampled; the next <see cref="Connect"/> uses it.</summary>
        public int MaxCaptureHeight { get => maxCaptureHeight; set => maxCaptureHeight = value; }

        /// <summary>Whether the whole frames that the server asks for are sent, from the next frame on.</summary>
        public bool SendKeyframes { get => sendKeyframes; set => sendKeyframes = value; }

        /// <summary>Whether the server sends its importance map with the coordinates; the next <see cref="Connect"/> uses it.</summary>
        public bool WantsImportance { get => wantsImportance; set => wantsImportance = value; }

        /// <summary>Who chooses where a frame is sampled; the next <see cref="Connect"/> uses it.</summary>
        public CoordinateSource CoordinateSource { get => coordinateSource; set => coordinateSource = value; }

        /// <summary>Whether the picture is turned over, for a device that stores screenshots otherwise than it says; the next <see cref="Connect"/> uses it.</summary>
        public bool FlipRows { get => flipRows; set => flipRows = value; }
    }
}
