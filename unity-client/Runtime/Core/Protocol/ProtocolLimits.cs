namespace Sgaps.Client
{
    /// <summary>The numbers that both sides of the protocol agree on.</summary>
    public static class ProtocolLimits
    {
        /// <summary>Subprotocol of the binary form.</summary>
        public const string BinarySubprotocol = "sgaps.v1.binary";

        /// <summary>Subprotocol of the JSON form.</summary>
        public const string JsonSubprotocol = "sgaps.v1.json";

        /// <summary>A set id is twice a frame id; a double holds both exactly.</summary>
        public const long MaxFrameId = (1L << 52) - 2;

        /// <summary>Largest id of a coordinate set.</summary>
        public const long MaxSetId = (1L << 53) - 1;

        /// <summary>Longest side of a picture, in pixels.</summary>
        public const int MaxSidePx = 8192;

        /// <summary>Most state values of a frame.</summary>
        public const int MaxStateDim = 4096;

        /// <summary>Side of the largest square, in pixels; all are powers of two.</summary>
        public const int MaxFootprintPx = 64;

        /// <summary>Most bytes of one message, in either direction.</summary>
        public const int MaxMessageBytes = 4 * 1024 * 1024;

        /// <summary>Whether a sample may cover a square of this side, in pixels.</summary>
        public static bool IsFootprint(double sidePx)
        {
            return sidePx >= 1 && sidePx <= MaxFootprintPx && sidePx == (int)sidePx && ((int)sidePx & ((int)sidePx - 1)) == 0;
        }
    }
}
