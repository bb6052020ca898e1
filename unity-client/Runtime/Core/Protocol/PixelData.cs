namespace Sgaps.Client
{
    /// <summary>
    /// The values of one coordinate set in one frame. The set travels with its values from the moment of
    /// capture, so a read-back that arrives late cannot be sent under newer coordinates.
    /// </summary>
    public sealed class PixelData
    {
        private byte[] _values = new byte[0];

        /// <summary>Where the values were read.</summary>
        public UVCoordinates Coordinates { get; private set; }

        /// <summary>How many values there are: one for each coordinate.</summary>
        public int Count
        {
            get { return Coordinates == null ? 0 : Coordinates.Coords.Length; }
        }

        /// <summary>BT.601 luma of the gamma-encoded picture, 255 = white; the first <see cref="Count"/> are valid.</summary>
        public byte[] Values
        {
            get { return _values; }
        }

        /// <summary>Get ready for the values of a set; memory is reused.</summary>
        public void Reset(UVCoordinates coordinates)
        {
            Coordinates = coordinates;
            if (_values.Length < Count) _values = new byte[Count];
        }
    }
}
