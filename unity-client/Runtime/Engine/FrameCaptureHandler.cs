using System;
using UnityEngine;

namespace Sgaps.Client
{
    /// <summary>
    /// Captures the final screen: gathers its samples on the graphics device, or reads the whole luma picture back where
    /// that cannot be done and on keyframes. Made for one size of the screen; another size needs another handler, as it
    /// needs another session.
    /// </summary>
    public sealed class FrameCaptureHandler : IDisposable
    {
        // Read-back takes two to three frames; with four on their way a frame is captured at any rate the game has.
        private const int MaxInFlight = 4;

        // While somebody drags the edge of the window, each frame has another size.
        private const double SettleSecs = 0.5;

        // Of whole pictures, one after the other, before none is asked for any more.
        private const int FailuresInARow = 3;

        private readonly CapturedFrame[] _frames = new CapturedFrame[MaxInFlight];
        private readonly LumaPicture _picture;
        private readonly SampleGatherer _gatherer;
        private readonly RowOrder _order;
        private Texture2D _readBack;
        private int _oldest;
        private int _seenWidth;
        private int _seenHeight;
        private double _seenAtSecs;
        private int _failedKeyframes;

        /// <summary>
        /// A handler for the screen as it is now. A screen higher than `maxHeightPx` is scaled down to it; `flipRows` turns
        /// the picture over, for a device that stores it otherwise than it says.
        /// </summary>
        public FrameCaptureHandler(int maxHeightPx, bool flipRows)
        {
            ScreenWidth = Screen.width;
            ScreenHeight = Screen.height;
            int width, height;
            PictureSize(maxHeightPx, out width, out height);
            Width = width;
            Height = height;
            _picture = new LumaPicture(ScreenWidth, ScreenHeight, Width, Height);
            _gatherer = SampleGatherer.IfSupported();
            _order = OrderOfScreenshots(flipRows);
            for (var i = 0; i < MaxInFlight; i++) _frames[i] = new CapturedFrame();
        }

        /// <summary>Pixels of the picture that the screen as it is now gives.</summary>
        public static void PictureSize(int maxHeightPx, out int width, out int height)
        {
            var scale = Math.Min(1.0, (double)maxHeightPx / Screen.height);
            width = Math.Max(1, (int)Math.Round(Screen.width * scale));
            height = Math.Max(1, (int)Math.Round(Screen.height * scale));
        }

        /// <summary>Width of the picture that is sampled, in pixels: the session's.</summary>
        public int Width { get; private set; }

        /// <summary>Height of the picture that is sampled, in pixels.</summary>
        public int Height { get; private set; }

        /// <summary>Whether samples are gathered on the graphics device.</summary>
        public bool GathersOnGpu
        {
            get { return _gatherer != null; }
        }

        /// <summary>Whether the screen has another size than this handler was made for.</summary>
        public bool IsOutdated
        {
            get { return Screen.width != ScreenWidth || Screen.height != ScreenHeight; }
        }

        /// <summary>Whether it has, and has kept it for half a second. Ask every frame; `nowSecs` is a monotonic clock.</summary>
        public bool ShouldBeReplaced(double nowSecs)
        {
            if (Screen.width != _seenWidth || Screen.height != _seenHeight) _seenAtSecs = nowSecs;
            _seenWidth = Screen.width;
            _seenHeight = Screen.height;
            return IsOutdated && nowSecs - _seenAtSecs >= SettleSecs;
        }

        /// <summary>Frames between their capture and <see cref="Release"/>.</summary>
        public int InFlight { get; private set; }

        /// <summary>Whether another frame can be captured now.</summary>
        public bool CanCapture
        {
            get { return InFlight < MaxInFlight; }
        }

        /// <summary>Frames that the graphics device failed to hand over.</summary>
        public long Failures { get; private set; }

        /// <summary>Whether the graphics device hands whole pictures over; some only give what is gathered on them.</summary>
        public bool GivesKeyframes
        {
            get { return _failedKeyframes < FailuresInARow; }
        }

        /// <summary>Size and way of the capture, for people.</summary>
        public override string ToString()
        {
            var way = GathersOnGpu ? "gathered on the GPU" : "read back whole";
            var keyframes = GivesKeyframes ? "" : ", no keyframes: the device does not hand whole pictures over";
            return Width + "x" + Height + " " + way + ", " + Failures + " not handed over" + keyframes;
        }

        private int ScreenWidth { get; set; }

        private int ScreenHeight { get; set; }

        /// <summary>
        /// Capture the frame that is on the screen; call it after WaitForEndOfFrame. Takes the values out of `state`.
        /// Throws InvalidOperationException where <see cref="CanCapture"/> is false.
        /// </summary>
        public void Capture(UVCoordinates coordinates, StateVectorCollector state, bool isKeyframe)
        {
            if (!CanCapture) throw new InvalidOperationException(InFlight + " frames are being captured");
            var frame = _frames[(_oldest + InFlight++) % MaxInFlight];
            frame.Begin(coordinates, state, isKeyframe);
            try
            {
                _picture.Capture();
                if (_gatherer != null && !isKeyframe && frame.Pixels.Count > 0) _gatherer.Gather(_picture.Luma, _order, frame);
                else if (SystemInfo.supportsAsyncGPUReadback) frame.RequestLuma(_picture.Luma, _order);
                else ReadNow(frame);
            }
            catch
            {
                frame.Fail(); // it keeps its place otherwise, and all that come after it wait for ever
                throw;
            }
        }

        /// <summary>The oldest frame if it is ready to be sent, else null. Frames come in the order of their capture.</summary>
        public CapturedFrame Ready()
        {
            return InFlight > 0 && _frames[_oldest].IsReady() ? _frames[_oldest] : null;
        }

        /// <summary>Give back what <see cref="Ready"/> gave; its memory is used again.</summary>
        public void Release(CapturedFrame frame)
        {
            if (!ReferenceEquals(frame, _frames[_oldest]) || !frame.IsBusy) throw new InvalidOperationException("frames are released in their order");
            if (frame.HasFailed) Failures++;
            if (frame.IsKeyframe) _failedKeyframes = frame.HasFailed ? _failedKeyframes + 1 : 0;
            frame.Release();
            _oldest = (_oldest + 1) % MaxInFlight;
            InFlight--;
        }

        /// <summary>Wait for what the graphics device still writes of these frames, and free everything.</summary>
        public void Dispose()
        {
            foreach (var frame in _frames) frame.Dispose();
            if (_gatherer != null) _gatherer.Dispose();
            if (_readBack != null) UnityEngine.Object.Destroy(_readBack);
            _picture.Dispose();
        }

        // The way of WebGL and OpenGL ES 3: it stalls until the device is done.
        private void ReadNow(CapturedFrame frame)
        {
            if (_readBack == null) _readBack = new Texture2D(Width, Height, TextureFormat.RGBA32, false, true);
            var before = RenderTexture.active;
            RenderTexture.active = _picture.Luma;
            _readBack.ReadPixels(new Rect(0, 0, Width, Height), 0, 0, false);
            RenderTexture.active = before;
            var pixels = _readBack.GetPixelData<Color32>(0);
            var luma = frame.ReserveLuma(Width, Height, _order);
            for (var i = 0; i < Width * Height; i++) luma[i] = pixels[i].r;
            frame.FinishLuma();
        }

        // A screenshot is a copy of the screen as the device holds it: from the top where its texture coordinates start
        // there (Direct3D, Metal, Vulkan), else from the bottom (OpenGL). Blits keep the order.
        private static RowOrder OrderOfScreenshots(bool flipRows)
        {
            return SystemInfo.graphicsUVStartsAtTop != flipRows ? RowOrder.TopFirst : RowOrder.BottomFirst;
        }
    }
}
