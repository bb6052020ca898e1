using System;
using System.Collections;
using System.Diagnostics;
using UnityEngine;
using Debug = UnityEngine.Debug;

namespace Sgaps.Client
{
    /// <summary>
    /// Drop it into a scene and the game streams: it captures the final screen at the server's rate, samples it where the
    /// server asks, and survives lost connections and changes of the screen's size. Its settings are in SGAPSManager.Settings.cs.
    /// </summary>
    [DisallowMultipleComponent]
    [AddComponentMenu("SGAPS/SGAPS Manager")]
    public sealed partial class SGAPSManager : MonoBehaviour
    {
        private readonly WaitForEndOfFrame _endOfFrame = new WaitForEndOfFrame();
        private readonly Stopwatch _captureTime = new Stopwatch();
        private readonly System.Random _random = new System.Random();
        private NetworkClient _client;
        private FrameCaptureHandler _capture;
        private FramePacer _pacer;
        private Coroutine _loop;
        private UVCoordinates _own;
        private bool _awaitsFirstUpdate;

        /// <summary>A manager with nothing gathered yet; Unity makes it.</summary>
        public SGAPSManager()
        {
            State = new StateVectorCollector(() => Time.frameCount);
            Performance = new PerformanceMonitor(NowSecs);
        }

        /// <summary>A session began, or goes on after a lost connection.</summary>
        public event Action<SessionStartAck> SessionStarted;

        /// <summary>New coordinates of the server.</summary>
        public event Action<UVCoordinates> CoordinatesReceived;

        /// <summary>The connection is lost, and why; the client tries again.</summary>
        public event Action<string> ConnectionLost;

        /// <summary>The server refused one message.</summary>
        public event Action<ErrorMessage> MessageRefused;

        /// <summary>The server refused for good, or says what cannot be read: the game has to change something and call <see cref="Connect"/>.</summary>
        public event Action<ProtocolException> SessionRefused;

        /// <summary>Add this frame's values in Update or LateUpdate, while the component is enabled; emptied at the end of each frame.</summary>
        public StateVectorCollector State { get; private set; }

        /// <summary>Rolling averages.</summary>
        public PerformanceMonitor Performance { get; private set; }

        /// <summary>The connection and its session; null before the first <see cref="Connect"/>.</summary>
        public NetworkClient Client => _client;

        /// <summary>How frames are captured; null unless connected.</summary>
        public FrameCaptureHandler CaptureHandler => _capture;

        /// <summary>How it goes, in lines for people.</summary>
        public string Report => SessionReport.Of(_client, Performance, _capture == null ? "stopped" : _capture.ToString());

        /// <summary>Whether frames flow.</summary>
        public bool IsStreaming => _client != null && _client.State == ConnectionState.Streaming;

        /// <summary>
        /// Start a new session, at the present size of the screen. Throws ArgumentException for a wrong endpoint or key,
        /// InvalidOperationException while the component is disabled; a session that runs goes on then.
        /// </summary>
        public void Connect()
        {
            // Not isActiveAndEnabled: that is false until OnEnable, before which the Awake of other scripts may come.
            if (!enabled || !gameObject.activeInHierarchy) throw new InvalidOperationException("enable the component first");
            var client = new NetworkClient(Config(), NewTransport, NowSecs, _random);
            Disconnect();
            _client = client;
            _capture = new FrameCaptureHandler(maxCaptureHeight, flipRows);
            _pacer = new FramePacer();
            Performance.Reset();
            Listen();
            _client.Start();
        }

        /// <summary>End the session and free what it used. Does nothing where there is none.</summary>
        public void Disconnect()
        {
            _awaitsFirstUpdate = false;
            if (_client != null) _client.Dispose();
            if (_capture != null) _capture.Dispose();
            _capture = null;
            _own = null;
        }

        private void OnEnable()
        {
            _loop = StartCoroutine(CaptureLoop());
            _awaitsFirstUpdate = _client == null || !_client.IsRunning;
        }

        private void OnDisable()
        {
            StopCoroutine(_loop);
            Disconnect();
            State.Clear();
        }

        private void Update()
        {
            if (_awaitsFirstUpdate) ConnectIfWanted();
            if (_client != null) _client.Poll();
        }

        // Not in OnEnable: code that adds the component, and the Start of other scripts, set it up first.
        private void ConnectIfWanted()
        {
            _awaitsFirstUpdate = false;
            if (autoConnect) Connect();
        }

        // Runs without a connection too, for the state is emptied at the end of each frame. Unity ends a loop that throws.
        private IEnumerator CaptureLoop()
        {
            while (true)
            {
                yield return _endOfFrame;
                try
                {
                    if (_capture != null) EndFrame();
                }
                catch (Exception error)
                {
                    Debug.LogException(error, this);
                }
                State.Clear();
            }
        }

        private void EndFrame()
        {
            SendReadyFrames();
            // A refusal for good is not asked for again, and a pause not cut short, whatever the screen does.
            if (_capture.ShouldBeReplaced(NowSecs()) && _client.IsRunning && _client.State != ConnectionState.Waiting) Restart();
            else if (IsDue()) Capture();
        }

        private bool IsDue()
        {
            return _client.CanSend && _capture.CanCapture && !_capture.IsOutdated && _pacer.TakeIfDue(NowSecs(), _client.Session.TargetFps);
        }

        // A session has one resolution: that of before ends, even where no other can begin.
        private void Restart()
        {
            Debug.Log("SGAPS: the screen is now " + Screen.width + "x" + Screen.height + ", starting a new session", this);
            Disconnect();
            Connect();
        }

        private void Capture()
        {
            _captureTime.Restart();
            var isKeyframe = sendKeyframes && _capture.GivesKeyframes && _client.WantsKeyframe(_capture.InFlight);
            _capture.Capture(Coordinates(), State, isKeyframe);
            Performance.BookCapture(_captureTime.Elapsed.TotalMilliseconds);
        }

        private UVCoordinates Coordinates()
        {
            var pattern = _client.Config.OwnPattern;
            if (!pattern.HasValue) return _client.Session.Coordinates;
            var changes = pattern == SamplingPattern.Random || pattern == SamplingPattern.Stratified;
            var count = Math.Min(_client.Session.SampleCount, _capture.Width * _capture.Height);
            if (_own == null || _own.Coords.Length != count || changes)
            {
                _own = UVCoordinates.OwnChoice(SamplingPatterns.Create(pattern.Value, count, _capture.Width, _capture.Height, _random));
            }
            return _own;
        }

        private void SendReadyFrames()
        {
            for (var frame = _capture.Ready(); frame != null; frame = _capture.Ready())
            {
                _capture.Release(frame); // first: one that cannot be sent keeps no place
                if (!frame.HasFailed) Send(frame);
            }
        }

        // What is not sent is counted by the session: Session.FramesDropped.
        private void Send(CapturedFrame frame)
        {
            var result = _client.TrySend(frame.Pixels, frame.State, frame.StateCount, frame.TimestampSecs, frame.KeyframePng);
            if (result == SendResult.Sent) Performance.BookSent(_client.Session.Account.NextFrameId - 1);
        }

        private SessionConfig Config()
        {
            FrameCaptureHandler.PictureSize(maxCaptureHeight, out int width, out int height);
            return new SessionConfig
            {
                Endpoint = endpoint,
                CheckpointKey = checkpointKey,
                AuthToken = authToken,
                Width = width,
                Height = height,
                MaxStateDim = maxStateDim,
                WantsImportance = wantsImportance,
                OwnPattern = coordinateSource.OwnPattern(),
            };
        }

        private void Listen()
        {
            _client.SessionStarted += ack => { if (SessionStarted != null) SessionStarted(ack); };
            _client.CoordinatesReceived += TakeCoordinates;
            _client.ConnectionLost += Lost;
            _client.MessageRefused += Refused;
            _client.SessionRefused += Ended;
        }

        private void TakeCoordinates(UVCoordinates coordinates)
        {
            Performance.BookAnswer(coordinates.FrameId);
            if (CoordinatesReceived != null) CoordinatesReceived(coordinates);
        }

        private void Lost(string reason)
        {
            Debug.LogWarning("SGAPS: connection lost (" + reason + "), trying again", this);
            if (ConnectionLost != null) ConnectionLost(reason);
        }

        private void Refused(ErrorMessage error)
        {
            Debug.LogWarning("SGAPS: the server refused a message: " + error.Code + ": " + error.Message, this);
            if (MessageRefused != null) MessageRefused(error);
        }

        private void Ended(ProtocolException error)
        {
            Debug.LogError("SGAPS: not trying again: " + error.Message, this);
            if (SessionRefused != null) SessionRefused(error);
        }

        private static IWebSocketTransport NewTransport()
        {
#if UNITY_WEBGL && !UNITY_EDITOR
            return new WebGLTransport();
#else
            return new ClientWebSocketTransport();
#endif
        }

        private static double NowSecs()
        {
            return Time.realtimeSinceStartupAsDouble;
        }
    }
}
