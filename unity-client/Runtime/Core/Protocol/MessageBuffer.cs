using System;
using System.Runtime.InteropServices;
using System.Text;

namespace Sgaps.Client
{
    /// <summary>One outgoing message; little-endian, and its memory is used again for the next.</summary>
    public sealed class MessageBuffer
    {
        private byte[] _bytes = new byte[1024];

        /// <summary>The first <see cref="Count"/> bytes are the message.</summary>
        public byte[] Bytes
        {
            get { return _bytes; }
        }

        /// <summary>Length of the message in bytes.</summary>
        public int Count { get; private set; }

        /// <summary>Whether the message is text (JSON in UTF-8), not binary.</summary>
        public bool IsText { get; private set; }

        internal void Begin(bool isText)
        {
            Count = 0;
            IsText = isText;
        }

        internal void Text(string text)
        {
            Begin(true);
            Reserve(Encoding.UTF8.GetMaxByteCount(text.Length));
            Count = Encoding.UTF8.GetBytes(text, 0, text.Length, _bytes, 0);
        }

        internal void UInt8(int value)
        {
            Reserve(1);
            _bytes[Count++] = (byte)value;
        }

        internal void UInt16(int value)
        {
            UInt8(value);
            UInt8(value >> 8);
        }

        internal void UInt32(uint value)
        {
            UInt16((int)(value & 0xffff));
            UInt16((int)(value >> 16));
        }

        internal void Int64(long value)
        {
            UInt32((uint)value);
            UInt32((uint)(value >> 32));
        }

        internal void Float32(float value)
        {
            UInt32(new Float32Bits { Value = value }.Bits);
        }

        internal void Float64(double value)
        {
            Int64(BitConverter.DoubleToInt64Bits(value));
        }

        internal void Raw(byte[] bytes, int count)
        {
            Reserve(count);
            Buffer.BlockCopy(bytes, 0, _bytes, Count, count);
            Count += count;
        }

        private void Reserve(int count)
        {
            if (Count + count > _bytes.Length) Array.Resize(ref _bytes, Math.Max(2 * _bytes.Length, Count + count));
        }
    }

    /// <summary>The bits of a float without the array that BitConverter.GetBytes allocates.</summary>
    [StructLayout(LayoutKind.Explicit)]
    internal struct Float32Bits
    {
        [FieldOffset(0)]
        public float Value;

        [FieldOffset(0)]
        public uint Bits;
    }
}
