using System;
using UnityEngine;

namespace Sgaps.Client
{
    /// <summary>Reads N samples on the graphics device, so that 4 N bytes come back instead of a screen.</summary>
    internal sealed class SampleGatherer : IDisposable
    {
        private static readonly int LumaId = Shader.PropertyToID("_Luma");
        private static readonly int RectsId = Shader.PropertyToID("_Rects");
        private static readonly int ValuesId = Shader.PropertyToID("_Values");

        private readonly ComputeShader _shader;
        private readonly int _kernel;
        private ComputeBuffer _rects;
        private PixelRect[] _staging = new PixelRect[0];
        private UVCoordinates _uploaded;

        private SampleGatherer(ComputeShader shader)
        {
            _shader = shader;
            _kernel = shader.FindKernel("Gather");
        }

        /// <summary>Null where the device has no compute shaders or no asynchronous read-back, as on WebGL.</summary>
        public static SampleGatherer IfSupported()
        {
            if (!SystemInfo.supportsComputeShaders || !SystemInfo.supportsAsyncGPUReadback) return null;
            var shader = Resources.Load<ComputeShader>("Sgaps/Gather");
            if (shader == null) throw new InvalidOperationException("the shader Resources/Sgaps/Gather is not in the build");
            return new SampleGatherer(shader);
        }

        /// <summary>Sample the picture at the frame's coordinates; the frame reads the values back.</summary>
        public void Gather(RenderTexture luma, RowOrder order, CapturedFrame frame)
        {
            Upload(frame.Pixels.Coordinates, luma.width, luma.height, order);
            _shader.SetTexture(_kernel, LumaId, luma);
            _shader.SetBuffer(_kernel, RectsId, _rects);
            _shader.SetBuffer(_kernel, ValuesId, frame.BufferForValues());
            // One thread group for each sample.
            _shader.Dispatch(_kernel, frame.Pixels.Count, 1, 1);
            frame.RequestValues();
        }

        public void Dispose()
        {
            if (_rects != null) _rects.Release();
        }

        private void Upload(UVCoordinates set, int width, int height, RowOrder order)
        {
            if (ReferenceEquals(set, _uploaded)) return;
            var count = set.Coords.Length;
            Reserve(count);
            for (var i = 0; i < count; i++) _staging[i] = PixelRect.Of(set.Coords[i], width, height, order);
            _rects.SetData(_staging, 0, 0, count);
            _uploaded = set;
        }

        private void Reserve(int count)
        {
            if (_staging.Length >= count) return;
            if (_rects != null) _rects.Release();
            _staging = new PixelRect[count];
            _rects = new ComputeBuffer(count, PixelRect.SizeBytes);
        }
    }
}
