namespace Sgaps.Client
{
    /// <summary>How the bulky messages of a client are written: the form that the server chose.</summary>
    public interface IMessageCodec
    {
        /// <summary>Write a `frame_data`.</summary>
        void EncodeFrame(FrameData frame, MessageBuffer message);

        /// <summary>Write a `keyframe`.</summary>
        void EncodeKeyframe(KeyframeMessage keyframe, MessageBuffer message);
    }
}
