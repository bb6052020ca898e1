using System;

namespace Sgaps.Client
{
    /// <summary>
    /// One session that survives lost connections and restarted servers. Nothing happens between two calls of
    /// <see cref="Poll"/>: in Unity, all of it happens on the main thread.
    /// </summary>
    public sealed partial class NetworkClient : IDisposable
    {
        private const double HeartbeatSecs = 1;

        // A heartbeat that waits longer for its answer waits behind frames.
        private const double BackloggedSecs = 1;
        private const double StartTimeoutSecs = 10;
        private const double SilenceTimeoutSecs = 10;

        // One that ends sooner may be ended by what it was asked, and so may the next.
        private const double SteadySecs = 5;
        private const int MaxBacklogBytes = 1024 * 1024;

        // What is beyond waits for the next poll: a server that talks faster than the game reads must not stop the game.
        private const int MaxMessagesAPoll = 64;
        private static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);

        private readonly SessionConfig _config;
        private readonly Func<IWebSocketTransport> _newTransport;
        private readonly Func<double> _nowSecs;
        private readonly Backoff _backoff;
        private readonly MessageBuffer _outgoing = new MessageBuffer();
        private IWebSocketTransport _transport;
        private IMessageCodec _codec;
        private bool _hasAck;
        private string _resumeSessionId;
        private double _deadlineSecs;
        private double _notBeforeSecs = double.NegativeInfinity;
        private double _polledAtSecs;
        private double _nextHeartbeatSecs;
        private double _steadyAtSecs;

        /// <summary>
        /// A client that is not started yet. `newTransport` makes a transport for each connection, `nowSecs` is a
        /// monotonic clock. Throws ArgumentException where the configuration is wrong.
        /// </summary>
        public NetworkClient(SessionConfig config, Func<IWebSocketTransport> newTransport, Func<double> nowSecs, Random random)
        {
            config.Validate();
            _config = config;
            _newTransport = newTransport;
            _nowSecs = nowSecs;
            _backoff = new Backoff(random);
            Session = new SessionStatus();
        }

        /// <summary>A session began, or goes on.</summary>
        public event Action<SessionStartAck> SessionStarted;

        /// <summary>New coordinates; their FrameId is the frame that they answer, -1 for the first of a connection.</summary>
        public event Action<UVCoordinates> CoordinatesReceived;

        /// <summary>The server refused one message, and goes on.</summary>
        public event Action<ErrorMessage> MessageRefused;

        /// <summary>The connection is lost, and why; another try follows.</summary>
        public event Action<string> ConnectionLost;

        /// <summary>The server refused for good, or says what cannot be read; no other try follows.</summary>
        public event Action<ProtocolException> SessionRefused;

        /// <summary>Where the connection is.</summary>
        public ConnectionState State { get; private set; }

        /// <summary>What is known of the session.</summary>
        public SessionStatus Session { get; private set; }

        /// <summary>Why the state is Refused; else null.</summary>
        public ProtocolException Refusal { get; private set; }

        /// <summary>Why the newest connection was lost, or did not come about; null before the first that was.</summary>
        public string LastLoss { get; private set; }

        /// <summary>Whether it has a connection, or comes back by itself: started, and neither stopped nor refused for good.</summary>
        public bool IsRunning
        {
            get { return State != ConnectionState.Stopped && State != ConnectionState.Refused; }
        }

        /// <summary>The terms that the session was started with.</summary>
        public SessionConfig Config
        {
            get { return _config; }
        }

        /// <summary>The form that the server chose: a subprotocol; null without a session.</summary>
        public string Subprotocol
        {
            get { return State == ConnectionState.Streaming ? _transport.Subprotocol : null; }
        }

        // While it waits.
        internal double NextTryInSecs
        {
            get { return Math.Max(0, _deadlineSecs - _nowSecs()); }
        }

        // 0 where the server wants frames.
        internal double PauseSecs
        {
            get { return Math.Max(0, Session.PausedUntilSecs - _nowSecs()); }
        }

        /// <summary>Whether a frame would be sent now.</summary>
        public bool CanSend
        {
            get { return State == ConnectionState.Streaming && PauseSecs == 0; }
        }

        /// <summary>Whether the frame after so many that are being captured is one that the server wants whole.</summary>
        public bool WantsKeyframe(int framesInFlight)
        {
            var interval = Session.KeyframeInterval;
            return interval > 0 && (Session.Account.NextFrameId + framesInFlight) % interval == 0;
        }

        /// <summary>Begin to connect, not before the server that sent it away wants it. Throws InvalidOperationException if it runs already.</summary>
        public void Start()
        {
            if (IsRunning) throw new InvalidOperationException("the client runs already");
            Refusal = null;
            _backoff.Reset();
            if (_nowSecs() < _notBeforeSecs) WaitUntil(_notBeforeSecs);
            else Connect();
        }

        /// <summary>Close the connection. The session can be resumed by Start while the server remembers it.</summary>
        public void Stop()
        {
            CloseTransport();
            State = ConnectionState.Stopped;
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            Stop();
        }

        /// <summary>Do what is due: connect, read, answer, beat. Call it at least once a frame.</summary>
        public void Poll()
        {
            LeaveOutAbsence();
            try
            {
                if (State == ConnectionState.Waiting && _nowSecs() >= _deadlineSecs) Connect();
                if (State == ConnectionState.Connecting) FinishConnecting();
                if (State == ConnectionState.Starting || State == ConnectionState.Streaming) Receive();
                if (State == ConnectionState.Streaming) Beat();
            }
            catch (ProtocolException error)
            {
                GiveUp(ProtocolException.Unreadable(error));
            }
        }

        /// <summary>
        /// Send a frame, after its keyframe where there is one (else null). Copies what it is given. The coordinates of
        /// `pixels` must be the server's, or the game's own in a session whose config says so. Throws ArgumentException
        /// for a state value that is not finite.
        /// </summary>
        public SendResult TrySend(PixelData pixels, float[] state, int stateCount, double timestampSecs, byte[] keyframePng)
        {
            var result = Sendable(pixels.Coordinates);
            if (result == SendResult.Sent) Send(pixels, state, stateCount, timestampSecs, keyframePng);
            else Session.FramesDropped++;
            return result;
        }

        /// <summary>Seconds since 1970, as frames and heartbeats carry them.</summary>
        public static double UnixTimeSecs()
        {
            return (DateTime.UtcNow - Epoch).TotalSeconds;
        }

        private SendResult Sendable(UVCoordinates coordinates)
        {
            if (State != ConnectionState.Streaming || _transport.State != TransportState.Open) return SendResult.NotConnected;
            if (!CanSend) return SendResult.Paused;
            if (coordinates == null) return SendResult.StaleCoordinates; // pixels that were never filled
            var isKnown = _config.OwnPattern.HasValue ? coordinates.SetId == UVCoordinates.OwnChoiceSetId : Session.Sets.Contains(coordinates);
            if (!isKnown) return SendResult.StaleCoordinates;
            return IsBacklogged() ? SendResult.Backlogged : SendResult.Sent;
        }

        // The transport knows its own queue alone: behind it a kernel takes megabytes, minutes of frames, and only answers tell of them.
        private bool IsBacklogged()
        {
            return _transport.BacklogBytes > MaxBacklogBytes || Session.Account.HeartbeatDelaySecs(_nowSecs()) > BackloggedSecs;
        }

        private void Send(PixelData pixels, float[] state, int stateCount, double timestampSecs, byte[] keyframePng)
        {
            RequireFinite(state, stateCount);
            var frameId = Session.Account.NextFrameId;
            if (keyframePng != null)
            {
                _codec.EncodeKeyframe(new KeyframeMessage { FrameId = frameId, Encoding = PictureEncoding.Png, Picture = keyframePng }, _outgoing);
                SendOutgoing();
            }
            var frame = new FrameData
            {
                FrameId = frameId,
                Pixels = pixels,
                State = state,
                StateCount = Session.StateCount(stateCount),
                Width = _config.Width,
                Height = _config.Height,
                TimestampSecs = timestampSecs,
            };
            _codec.EncodeFrame(frame, _outgoing);
            Session.Account.BookSent();
            SendOutgoing();
        }

        private static void RequireFinite(float[] state, int count)
        {
            for (var i = 0; i < count; i++)
            {
                if (float.IsNaN(state[i]) || float.IsInfinity(state[i])) throw new ArgumentException("state value " + i + " is not finite", "state");
            }
        }

        private void SendOutgoing()
        {
            _transport.Send(_outgoing);
            Session.BytesUp += _outgoing.Count;
        }
    }
}
