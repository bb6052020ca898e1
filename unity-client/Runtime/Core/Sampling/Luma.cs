namespace Sgaps.Client
{
    /// <summary>
    /// ITU-R BT.601 luma of gamma-encoded sRGB bytes, in the integer arithmetic of OpenCV, which the server's other
    /// clients use; the shaders compute the same.
    /// </summary>
    public static class Luma
    {
        private const int Red = 9798;
        private const int Green = 19235;
        private const int Blue = 3735;
        private const int Shift = 15;

        /// <summary>The luma of one pixel, 0..255.</summary>
        public static byte Of(byte red, byte green, byte blue)
        {
            return (byte)((red * Red + green * Green + blue * Blue + (1 << (Shift - 1))) >> Shift);
        }
    }
}
