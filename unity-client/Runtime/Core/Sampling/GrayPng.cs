using System.IO;
using System.IO.Compression;

namespace Sgaps.Client
{
    /// <summary>
    /// Encodes keyframes: an 8-bit gray PNG (ISO/IEC 15948). Unity's own encoder needs the main thread and a texture; this
    /// one runs anywhere.
    /// </summary>
    public static class GrayPng
    {
        private static readonly byte[] Signature = { 137, 80, 78, 71, 13, 10, 26, 10 };
        private static readonly uint[] CrcOfByte = CrcTable();

        /// <summary>The PNG of `luma`, width × height bytes in the given order of rows.</summary>
        public static byte[] Encode(byte[] luma, int width, int height, RowOrder order)
        {
            var png = new MemoryStream();
            png.Write(Signature, 0, Signature.Length);
            var header = new MemoryStream();
            BigEndian(header, (uint)width);
            BigEndian(header, (uint)height);
            header.Write(new byte[] { 8, 0, 0, 0, 0 }, 0, 5);
            Chunk(png, "IHDR", header.ToArray());
            Chunk(png, "IDAT", Compressed(Scanlines(luma, width, height, order)));
            Chunk(png, "IEND", new byte[0]);
            return png.ToArray();
        }

        // Rows from the top, each behind the byte of its filter: 0, none.
        private static byte[] Scanlines(byte[] luma, int width, int height, RowOrder order)
        {
            var lines = new byte[(width + 1) * height];
            for (var y = 0; y < height; y++)
            {
                var row = order == RowOrder.TopFirst ? y : height - 1 - y;
                System.Buffer.BlockCopy(luma, row * width, lines, y * (width + 1) + 1, width);
            }
            return lines;
        }

        // A zlib stream (RFC 1950): two bytes of header, deflate, Adler-32.
        private static byte[] Compressed(byte[] data)
        {
            var zlib = new MemoryStream();
            zlib.WriteByte(0x78);
            zlib.WriteByte(0x01);
            using (var deflate = new DeflateStream(zlib, CompressionLevel.Fastest, true)) deflate.Write(data, 0, data.Length);
            BigEndian(zlib, Adler32(data));
            return zlib.ToArray();
        }

        private static void Chunk(Stream png, string type, byte[] data)
        {
            BigEndian(png, (uint)data.Length);
            var name = System.Text.Encoding.ASCII.GetBytes(type);
            png.Write(name, 0, name.Length);
            png.Write(data, 0, data.Length);
            BigEndian(png, ~Crc(Crc(0xffffffff, name), data));
        }

        private static uint Crc(uint crc, byte[] data)
        {
            foreach (var value in data) crc = CrcOfByte[(crc ^ value) & 0xff] ^ (crc >> 8);
            return crc;
        }

        private static uint[] CrcTable()
        {
            var table = new uint[256];
            for (uint n = 0; n < table.Length; n++)
            {
                var crc = n;
                for (var bit = 0; bit < 8; bit++) crc = (crc & 1) != 0 ? 0xedb88320 ^ (crc >> 1) : crc >> 1;
                table[n] = crc;
            }
            return table;
        }

        private static uint Adler32(byte[] data)
        {
            uint low = 1, high = 0;
            foreach (var value in data)
            {
                low = (low + value) % 65521;
                high = (high + low) % 65521;
            }
            return high << 16 | low;
        }

        private static void BigEndian(Stream stream, uint value)
        {
            for (var shift = 24; shift >= 0; shift -= 8) stream.WriteByte((byte)(value >> shift));
        }
    }
}
