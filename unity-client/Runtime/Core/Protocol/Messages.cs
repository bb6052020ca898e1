using System.Collections.Generic;

namespace Sgaps.Client
{
    /// <summary>`session_start`: the first message of a connection.</summary>
    public sealed class SessionStart
    {
        /// <summary>What the session is about.</summary>
        public SessionConfig Config { get; set; }

        /// <summary>Whether the client samples squares: not where it chooses its own coordinates.</summary>
        public bool OffersFootprint { get; set; }

        /// <summary>The session to go on with; null starts a new one.</summary>
        public string ResumeSessionId { get; set; }
    }

    /// <summary>`session_start_ack`: the terms of the session.</summary>
    public sealed class SessionStartAck
    {
        /// <summary>Name of the session; what it is resumed with.</summary>
        public string SessionId { get; internal set; }

        /// <summary>Whether a trained checkpoint serves this key.</summary>
        public bool CheckpointLoaded { get; internal set; }

        /// <summary>Most samples of a frame.</summary>
        public int SampleCount { get; internal set; }

        /// <summary>Most state values of a frame.</summary>
        public int MaxStateDim { get; internal set; }

        /// <summary>Frames a second that the server wants.</summary>
        public double TargetFps { get; internal set; }

        /// <summary>The checkpoint that serves.</summary>
        public string ModelVersion { get; internal set; }

        /// <summary>Every how many frames a whole frame is wanted; 0 = never.</summary>
        public int KeyframeInterval { get; internal set; }

        /// <summary>Whether this goes on with an earlier session.</summary>
        public bool Resumed { get; internal set; }

        /// <summary>The newest frame the server has of a resumed session; -1 without one.</summary>
        public long LastFrameId { get; internal set; }

        /// <summary>Those of the features that the client offered which the session uses.</summary>
        public IList<string> Features { get; internal set; }
    }

    /// <summary>`frame_data`: the samples and the state of one frame. A value, so sending makes no garbage.</summary>
    public struct FrameData
    {
        /// <summary>Greater than that of the frame before.</summary>
        public long FrameId;

        /// <summary>The values, and the set that they were read at.</summary>
        public PixelData Pixels;

        /// <summary>The first <see cref="StateCount"/> entries are the state vector; -999 where one is missing.</summary>
        public float[] State;

        /// <summary>How many state values are sent.</summary>
        public int StateCount;

        /// <summary>Width of the whole picture in pixels.</summary>
        public int Width;

        /// <summary>Height of the whole picture in pixels.</summary>
        public int Height;

        /// <summary>Seconds since 1970, when the frame was shown.</summary>
        public double TimestampSecs;
    }

    /// <summary>How a keyframe's picture is encoded; the numbers are the binary form's.</summary>
    public enum PictureEncoding
    {
        /// <summary>PNG.</summary>
        Png = 1,

        /// <summary>JPEG.</summary>
        Jpeg = 2,
    }

    /// <summary>`keyframe`: the whole frame, sent just before the `frame_data` of the same id.</summary>
    public struct KeyframeMessage
    {
        /// <summary>The frame that it shows.</summary>
        public long FrameId;

        /// <summary>How <see cref="Picture"/> is encoded.</summary>
        public PictureEncoding Encoding;

        /// <summary>The encoded picture.</summary>
        public byte[] Picture;
    }

    /// <summary>`heartbeat`: tells the server that the client is there, and asks how far the server is.</summary>
    public struct Heartbeat
    {
        /// <summary>Seconds since 1970; its answer repeats it.</summary>
        public double TimestampSecs;
    }

    /// <summary>`heartbeat_ack`: how far the server is, and the rate it wants.</summary>
    public sealed class HeartbeatAck
    {
        /// <summary>The timestamp of the heartbeat that is answered, in seconds.</summary>
        public double TimestampSecs { get; internal set; }

        /// <summary>The server's clock, in seconds since 1970.</summary>
        public double ServerTimeSecs { get; internal set; }

        /// <summary>The newest frame on disk; -1 before the first.</summary>
        public long LastRecordedFrameId { get; internal set; }

        /// <summary>Frames a second that the server wants from now on.</summary>
        public double TargetFps { get; internal set; }
    }

    /// <summary>`error`: the server refuses a message, or the session.</summary>
    public sealed class ErrorMessage
    {
        /// <summary>One of <see cref="ErrorCodes"/>, or a newer one.</summary>
        public string Code { get; internal set; }

        /// <summary>For people.</summary>
        public string Message { get; internal set; }

        /// <summary>Whether the server closes the connection after it.</summary>
        public bool IsFatal { get; internal set; }

        /// <summary>Seconds to wait before the next message; null where the server does not say.</summary>
        public double? RetryAfterSecs { get; internal set; }

        /// <summary>The same as an exception.</summary>
        public ProtocolException AsException()
        {
            return new ProtocolException(Code, Message, RetryAfterSecs);
        }
    }
}
