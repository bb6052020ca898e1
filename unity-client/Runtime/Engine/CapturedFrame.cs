using System;
using System.Threading.Tasks;
using UnityEngine;
using UnityEngine.Rendering;

namespace Sgaps.Client
{
    /// <summary>
    /// A frame on its way from the graphics device to the network. It keeps its coordinates and its state from the moment
    /// it was shown, and its memory for the frames after it.
    /// </summary>
    public sealed class CapturedFrame : IDisposable
    {
        // Made once: a method group at each request would be an allocation at each frame.
        private readonly Action<AsyncGPUReadbackRequest> _takeValues;
        private readonly Action<AsyncGPUReadbackRequest> _takeLuma;
        private readonly Action _encode;
        private ComputeBuffer _values;
        private byte[] _luma = new byte[0];
        private float[] _state = new float[0];
        private int _width;
        private int _height;
        private RowOrder _order;
        private Task _encoding;
        private AsyncGPUReadbackRequest _request;

        internal CapturedFrame()
        {
            Pixels = new PixelData();
            _takeValues = TakeValues;
            _takeLuma = TakeLuma;
            _encode = Encode;
        }

        /// <summary>The samples, once the frame is done.</summary>
        public PixelData Pixels { get; private set; }

        /// <summary>The first <see cref="StateCount"/> entries are the state vector.</summary>
        public float[] State
        {
            get { return _state; }
        }

        /// <summary>How many state values there are.</summary>
        public int StateCount { get; private set; }

        /// <summary>Seconds since 1970, when the frame was shown.</summary>
        public double TimestampSecs { get; private set; }

        /// <summary>The whole frame as PNG where it is a keyframe; else null.</summary>
        public byte[] KeyframePng { get; private set; }

        /// <summary>Whether the graphics device failed to hand the frame over.</summary>
        public bool HasFailed { get; private set; }

        internal bool IsKeyframe { get; private set; }

        internal bool IsBusy { get; private set; }

        internal bool IsDone { get; private set; }

        internal void Begin(UVCoordinates coordinates, StateVectorCollector state, bool isKeyframe)
        {
            Pixels.Reset(coordinates);
            StateCount = state.MoveTo(ref _state);
            TimestampSecs = NetworkClient.UnixTimeSecs();
            IsKeyframe = isKeyframe;
            KeyframePng = null;
            HasFailed = IsDone = false;
            IsBusy = true;
        }

        /// <summary>Read the gathered values back; they come some frames later.</summary>
        internal ComputeBuffer BufferForValues()
        {
            if (_values != null && _values.count >= Pixels.Count) return _values;
            if (_values != null) _values.Release();
            _values = new ComputeBuffer(Math.Max(1, Pixels.Count), sizeof(uint));
            return _values;
        }

        internal void RequestValues()
        {
            _request = AsyncGPUReadback.Request(_values, Pixels.Count * sizeof(uint), 0, _takeValues);
        }

        /// <summary>Read the whole luma picture back, for a keyframe or where nothing can be gathered.</summary>
        internal void RequestLuma(RenderTexture luma, RowOrder order)
        {
            ReserveLuma(luma.width, luma.height, order);
            _request = AsyncGPUReadback.Request(luma, 0, TextureFormat.R8, _takeLuma);
        }

        /// <summary>Memory for a luma picture that is read at once; <see cref="FinishLuma"/> follows.</summary>
        internal byte[] ReserveLuma(int width, int height, RowOrder order)
        {
            _width = width;
            _height = height;
            _order = order;
            if (_luma.Length < width * height) _luma = new byte[width * height];
            return _luma;
        }

        internal void FinishLuma()
        {
            PixelSampler.Sample(_luma, _width, _height, _order, Pixels.Coordinates, Pixels);
            if (IsKeyframe) BeginEncoding();
            IsDone = true;
        }

        /// <summary>Whether the frame can be sent. Rethrows what went wrong while its keyframe was encoded.</summary>
        internal bool IsReady()
        {
            if (!IsDone) return false;
            if (_encoding == null) return true;
            if (!_encoding.IsCompleted) return false;
            var encoding = _encoding;
            _encoding = null;
            encoding.GetAwaiter().GetResult();
            return true;
        }

        /// <summary>Nothing will come of it.</summary>
        internal void Fail()
        {
            HasFailed = IsDone = true;
        }

        internal void Release()
        {
            IsBusy = false;
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            if (IsBusy && !IsDone) _request.WaitForCompletion();
            if (_values != null) _values.Release();
            _values = null;
        }

        private void TakeValues(AsyncGPUReadbackRequest request)
        {
            Fail(); // unless it comes to an end
            if (request.hasError) return;
            var values = request.GetData<uint>();
            for (var i = 0; i < Pixels.Count; i++) Pixels.Values[i] = (byte)values[i];
            HasFailed = false;
        }

        private void TakeLuma(AsyncGPUReadbackRequest request)
        {
            Fail();
            if (request.hasError) return;
            Unity.Collections.NativeArray<byte>.Copy(request.GetData<byte>(), _luma, _width * _height);
            FinishLuma();
            HasFailed = false;
        }

        private void BeginEncoding()
        {
#if UNITY_WEBGL && !UNITY_EDITOR
            _encode();
#else
            _encoding = Task.Run(_encode);
#endif
        }

        private void Encode()
        {
            KeyframePng = GrayPng.Encode(_luma, _width, _height, _order);
        }
    }
}
