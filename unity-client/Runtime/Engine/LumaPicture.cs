using System;
using UnityEngine;

namespace Sgaps.Client
{
    /// <summary>
    /// The final screen, user interface included, as gamma-encoded BT.601 luma on the graphics device: what samples are
    /// read from and keyframes show.
    /// </summary>
    internal sealed class LumaPicture : IDisposable
    {
        private static readonly int EncodeSrgb = Shader.PropertyToID("_EncodeSrgb");

        private readonly Material _material;
        private readonly RenderTexture _screen;

        public LumaPicture(int screenWidth, int screenHeight, int width, int height)
        {
            var shader = Resources.Load<Shader>("Sgaps/Luma");
            if (shader == null) throw new InvalidOperationException("the shader Resources/Sgaps/Luma is not in the build");
            _material = new Material(shader);
            _screen = Screenshot(screenWidth, screenHeight, height < screenHeight);
            Luma = new RenderTexture(width, height, 0, LumaFormat(), RenderTextureReadWrite.Linear);
            Luma.filterMode = FilterMode.Point;
            Luma.Create();
        }

        /// <summary>Luma in the red channel, never converted: a byte of it is the byte that is sent.</summary>
        public RenderTexture Luma { get; private set; }

        /// <summary>Call it after WaitForEndOfFrame, when the screen is complete.</summary>
        public void Capture()
        {
            // A game may read the screen in the same moment: Blit would leave it our picture, and its target would be our screen.
            var before = RenderTexture.active;
            RenderTexture.active = null;
            try
            {
                ScreenCapture.CaptureScreenshotIntoRenderTexture(_screen);
                if (_screen.useMipMap) _screen.GenerateMips();
                // Sampling a texture that is marked sRGB decodes it; what is sent is encoded, as people see it.
                _material.SetInt(EncodeSrgb, _screen.sRGB ? 1 : 0);
                Graphics.Blit(_screen, Luma, _material);
            }
            finally
            {
                RenderTexture.active = before;
            }
        }

        public void Dispose()
        {
            _screen.Release();
            Luma.Release();
            UnityEngine.Object.Destroy(_screen);
            UnityEngine.Object.Destroy(Luma);
            UnityEngine.Object.Destroy(_material);
        }

        // The default: in linear projects the screen holds sRGB bytes and the copy is marked as such; in gamma projects
        // nothing is converted. Mip levels make a smaller picture without aliasing.
        private static RenderTexture Screenshot(int width, int height, bool isScaledDown)
        {
            var screen = new RenderTexture(width, height, 0, RenderTextureFormat.ARGB32, RenderTextureReadWrite.Default);
            screen.useMipMap = isScaledDown;
            screen.autoGenerateMips = false;
            screen.filterMode = isScaledDown ? FilterMode.Trilinear : FilterMode.Point;
            screen.Create();
            return screen;
        }

        // Without asynchronous read-back the picture goes through Texture2D.ReadPixels, which wants four channels.
        private static RenderTextureFormat LumaFormat()
        {
            return SystemInfo.supportsAsyncGPUReadback ? RenderTextureFormat.R8 : RenderTextureFormat.ARGB32;
        }
    }
}
