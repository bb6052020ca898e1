using System;
using System.Collections.Generic;

namespace Sgaps.Client
{
    /// <summary>What the server told last, and what went over the wire.</summary>
    public sealed class SessionStatus
    {
        /// <summary>The model version while no reconstructor runs.</summary>
        internal const string NoReconstructor = "none";

        // As the server names them: what serves where no checkpoint does.
        private static readonly HashSet<string> Checkpointless = new HashSet<string> { NoReconstructor, "untrained", "telea", "navier_stokes" };

        internal SessionStatus()
        {
            ModelVersion = NoReconstructor;
            TargetFps = 10;
        }

        internal readonly CoordinateSets Sets = new CoordinateSets();

        /// <summary>The present session, and after a lost connection the one to resume; null before the first.</summary>
        public SessionAccount Account { get; private set; }

        /// <summary>Sessions begun by this client.</summary>
        public int SessionsStarted { get; private set; }

        /// <summary>Where to sample now; null without a connection. The newest set of this connection.</summary>
        public UVCoordinates Coordinates
        {
            get { return Sets.Newest; }
        }

        /// <summary>The checkpoint that serves, or what serves in its place: `none` while no reconstructor runs, `untrained`, `telea`, `navier_stokes`.</summary>
        public string ModelVersion { get; private set; }

        /// <summary>Whether a trained checkpoint serves: one of this key, or the general one.</summary>
        public bool CheckpointLoaded
        {
            get { return !Checkpointless.Contains(ModelVersion); }
        }

        /// <summary>What the server expects of its newest rebuilt frame, in dB; null where it does not know.</summary>
        public double? PredictedPsnrDb { get; private set; }

        /// <summary>Most samples of a frame.</summary>
        public int SampleCount { get; private set; }

        /// <summary>Most state values of a frame; what is beyond is not sent.</summary>
        public int MaxStateDim { get; private set; }

        /// <summary>Frames a second that the server wants now.</summary>
        public double TargetFps { get; private set; }

        /// <summary>Every how many frames a whole frame is wanted; 0 = never.</summary>
        public int KeyframeInterval { get; private set; }

        /// <summary>Time before which the server wants no frames, in seconds of the client's clock.</summary>
        public double PausedUntilSecs { get; private set; }

        /// <summary>Bytes of messages sent.</summary>
        public long BytesUp { get; internal set; }

        /// <summary>Bytes of messages received.</summary>
        public long BytesDown { get; internal set; }

        /// <summary>Frames that were captured but not sent, whatever the SendResult.</summary>
        public long FramesDropped { get; internal set; }

        /// <summary>Frames and heartbeats that the server refused.</summary>
        public int Refusals { get; private set; }

        /// <summary>The code of the newest refusal; null before the first.</summary>
        public string LastRefusal { get; private set; }

        internal void TakeAck(SessionStartAck ack)
        {
            if (ack.Resumed) RequireSameSession(ack);
            else Account = new SessionAccount(ack.SessionId);
            if (ack.Resumed) Account.BookResumed(ack.LastFrameId);
            else SessionsStarted++;
            SampleCount = ack.SampleCount;
            MaxStateDim = ack.MaxStateDim;
            TargetFps = ack.TargetFps;
            KeyframeInterval = ack.KeyframeInterval;
            ModelVersion = ack.ModelVersion;
        }

        private void RequireSameSession(SessionStartAck ack)
        {
            var isAsked = Account != null && Account.SessionId == ack.SessionId;
            if (!isAsked) throw ProtocolException.BadMessage("session_start_ack resumes " + ack.SessionId + ", which was not asked for");
            var isSent = ack.LastFrameId < Account.NextFrameId;
            if (!isSent) throw ProtocolException.BadMessage("session_start_ack resumes after frame " + ack.LastFrameId + ", which was not sent");
        }

        internal void TakeCoordinates(UVCoordinates answer)
        {
            Sets.Add(answer);
            ModelVersion = answer.ModelVersion;
            PredictedPsnrDb = answer.PredictedPsnrDb;
            Account.BookAnswer(answer.FrameId);
        }

        internal void TakeHeartbeat(HeartbeatAck ack, double nowSecs)
        {
            Account.BookHeartbeat(ack, nowSecs);
            TargetFps = ack.TargetFps;
        }

        internal void TakeError(ErrorMessage error, double nowSecs)
        {
            Refusals++;
            LastRefusal = error.Code;
            if (ErrorCodes.RefusesFrame(error.Code)) Account.BookRefused();
            if (error.RetryAfterSecs.HasValue) PausedUntilSecs = nowSecs + error.RetryAfterSecs.Value;
        }

        internal int StateCount(int offered)
        {
            return Math.Min(offered, MaxStateDim);
        }
    }
}
