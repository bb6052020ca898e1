using System;
using System.Collections.Generic;
using System.Linq;

namespace Sgaps.Client
{
    /// <summary>
    /// What became of the frames of one session. The server acknowledges no frame singly: it says what it refused, how far
    /// the recorder is, and on a resume which frame it saw last.
    /// </summary>
    public sealed class SessionAccount
    {
        // Frame ids; a refusal names none, so it is taken for one of the newest frame.
        private readonly HashSet<long> _refused = new HashSet<long>();
        private readonly HashSet<long> _lost = new HashSet<long>();

        // Of the refused: those that a heartbeat without an answer may have been refused for.
        private readonly List<long> _doubtful = new List<long>();

        // Those that are not answered yet, the oldest first, and when they were sent by the client's clock.
        private readonly Queue<(double TimestampSecs, double SentAtSecs)> _heartbeats = new Queue<(double, double)>();

        // In which this connection answered a heartbeat; null before it did.
        private double? _quickestSecs;

        internal SessionAccount(string sessionId)
        {
            SessionId = sessionId;
            LastAnsweredFrameId = -1;
            LastRecordedFrameId = -1;
        }

        /// <summary>The server's name for the session.</summary>
        public string SessionId { get; private set; }

        /// <summary>Id of the next frame.</summary>
        public long NextFrameId { get; private set; }

        /// <summary>Frames sent.</summary>
        public long Sent { get; private set; }

        /// <summary>Frames answered with coordinates; some may never be, superseded by a newer one.</summary>
        public long Answered { get; private set; }

        /// <summary>How often the session went on after a lost connection.</summary>
        public int Resumed { get; private set; }

        /// <summary>The newest frame with an answer; -1 before the first.</summary>
        public long LastAnsweredFrameId { get; private set; }

        /// <summary>The newest frame on the server's disk; -1 before the first.</summary>
        public long LastRecordedFrameId { get; private set; }

        /// <summary>Frames that the server refused, as far as can be told.</summary>
        public int Refused
        {
            get { return _refused.Count; }
        }

        /// <summary>Frames sent into a connection that broke before the server read them.</summary>
        public int Lost
        {
            get { return _lost.Count; }
        }

        /// <summary>Frames the gateway took in; certain once a heartbeat sent after them is answered.</summary>
        public long Accepted
        {
            get { return Sent - Refused - Lost; }
        }

        /// <summary>Whether the last frame that the gateway took in is answered and on disk.</summary>
        public bool IsComplete
        {
            get { return Math.Min(LastAnsweredFrameId, LastRecordedFrameId) >= NewestTakenFrameId(); }
        }

        internal void BookSent()
        {
            Sent++;
            NextFrameId++;
        }

        internal void BookAnswer(long frameId)
        {
            if (frameId >= 0) Answered++;
            LastAnsweredFrameId = Math.Max(LastAnsweredFrameId, frameId);
        }

        internal void BookRefused()
        {
            var newest = NewestTakenFrameId();
            if (newest < 0) return;
            _refused.Add(newest);
            if (_doubtful.Count < _heartbeats.Count) _doubtful.Add(newest);
        }

        // How much longer than the quickest one the oldest heartbeat without an answer has waited for it.
        internal double HeartbeatDelaySecs(double nowSecs)
        {
            return _heartbeats.Count == 0 ? 0 : nowSecs - _heartbeats.Peek().SentAtSecs - (_quickestSecs ?? 0);
        }

        internal void BookHeartbeatSent(double timestampSecs, double nowSecs)
        {
            _heartbeats.Enqueue((timestampSecs, nowSecs));
        }

        // The server answers in order: older heartbeats without an answer were what it refused.
        internal void BookHeartbeat(HeartbeatAck ack, double nowSecs)
        {
            LastRecordedFrameId = Math.Max(LastRecordedFrameId, ack.LastRecordedFrameId);
            if (!_heartbeats.Any(sent => sent.TimestampSecs == ack.TimestampSecs)) return;
            while (_heartbeats.Peek().TimestampSecs != ack.TimestampSecs)
            {
                _heartbeats.Dequeue();
                ForgiveNewestRefusal();
            }
            var tookSecs = nowSecs - _heartbeats.Dequeue().SentAtSecs;
            _quickestSecs = Math.Min(_quickestSecs ?? tookSecs, tookSecs);
            _doubtful.Clear();
        }

        // The connection broke, and the server knows nothing of what was sent after this frame.
        internal void BookLost(long afterFrameId)
        {
            _heartbeats.Clear();
            _quickestSecs = null; // the next one may go another way
            // Taken for the heartbeats'. Beyond this frame it makes no difference: what was not refused is lost there.
            _refused.ExceptWith(_doubtful.Where(frameId => frameId < afterFrameId));
            _doubtful.Clear();
            _refused.Remove(afterFrameId); // it was stored after all
            for (var frameId = afterFrameId + 1; frameId < NextFrameId; frameId++)
            {
                if (!_refused.Contains(frameId)) _lost.Add(frameId);
            }
            NextFrameId = Math.Max(NextFrameId, afterFrameId + 1);
        }

        internal void BookResumed(long lastFrameId)
        {
            Resumed++;
            BookLost(lastFrameId);
        }

        // The server forgot the session: it had what it answered or recorded, for all we know.
        internal void BookGone()
        {
            BookLost(Math.Max(LastAnsweredFrameId, LastRecordedFrameId));
        }

        private void ForgiveNewestRefusal()
        {
            long newest = -1;
            foreach (var frameId in _refused) newest = Math.Max(newest, frameId);
            _refused.Remove(newest);
        }

        private long NewestTakenFrameId()
        {
            var frameId = NextFrameId - 1;
            while (_refused.Contains(frameId) || _lost.Contains(frameId)) frameId--;
            return frameId;
        }
    }
}
