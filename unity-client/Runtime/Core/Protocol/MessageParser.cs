using System;
using System.Text;

namespace Sgaps.Client
{
    /// <summary>Takes little-endian fields off the front of a binary message. Throws ProtocolException at its end.</summary>
    internal struct MessageParser
    {
        // A decoder that refuses bytes that are no UTF-8 instead of replacing them.
        private static readonly UTF8Encoding StrictUtf8 = new UTF8Encoding(false, true);

        private readonly byte[] _bytes;
        private readonly int _count;
        private int _at;

        public MessageParser(byte[] bytes, int count)
        {
            _bytes = bytes;
            _count = count;
            _at = 0;
        }

        public int Remaining
        {
            get { return _count - _at; }
        }

        public int UInt8()
        {
            return _bytes[Take(1)];
        }

        public int UInt16()
        {
            var at = Take(2);
            return _bytes[at] | _bytes[at + 1] << 8;
        }

        public uint UInt32()
        {
            var low = (uint)UInt16();
            return low | (uint)UInt16() << 16;
        }

        public long Int64()
        {
            var low = UInt32();
            return (long)((ulong)UInt32() << 32 | low);
        }

        public float Float32()
        {
            return new Float32Bits { Bits = UInt32() }.Value;
        }

        public double Float64()
        {
            return BitConverter.Int64BitsToDouble(Int64());
        }

        public byte[] Raw(int count)
        {
            var bytes = new byte[count];
            Buffer.BlockCopy(_bytes, Take(count), bytes, 0, count);
            return bytes;
        }

        public string Text(int count)
        {
            return DecodedText(_bytes, Take(count), count);
        }

        public static string DecodedText(byte[] bytes, int start, int count)
        {
            try
            {
                return StrictUtf8.GetString(bytes, start, count);
            }
            catch (ArgumentException error)
            {
                throw ProtocolException.BadMessage("not UTF-8: " + error.Message);
            }
        }

        private int Take(int count)
        {
            if (Remaining < count)
            {
                throw ProtocolException.BadMessage("binary message ends after " + _count + " bytes");
            }
            _at += count;
            return _at - count;
        }
    }
}
