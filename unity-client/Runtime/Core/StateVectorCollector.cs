using System;

namespace Sgaps.Client
{
    /// <summary>
    /// Gathers the state values of the frame that is being made: position, health, whatever tells pictures apart. In each
    /// frame the same values in the same order; how many there are is up to the game.
    /// </summary>
    public sealed class StateVectorCollector
    {
        /// <summary>Stands for a value that is missing; the server masks it and never takes it for a number.</summary>
        public const float Missing = -999f;

        private readonly Func<int> _frame;
        private float[] _values = new float[16];
        private int _count;
        private int _countedIn;

        /// <summary>With nothing in it, for who calls MoveTo or Clear in each frame.</summary>
        public StateVectorCollector() : this(() => 0)
        {
        }

        /// <summary>
        /// With nothing in it. `frame` says which frame is being made: values of one that never ended, as while Unity's
        /// editor shows another tab than the game's, are forgotten in the next.
        /// </summary>
        public StateVectorCollector(Func<int> frame)
        {
            _frame = frame;
        }

        /// <summary>Values added since the last reset.</summary>
        public int Count
        {
            get { return _countedIn == _frame() ? _count : 0; }
        }

        /// <summary>
        /// Add the next value; one that is not finite counts as missing. Throws InvalidOperationException beyond 4096.
        /// </summary>
        public void AddValue(float value)
        {
            if (Count == ProtocolLimits.MaxStateDim) throw new InvalidOperationException("a frame has at most " + Count + " state values");
            if (Count == _values.Length) Array.Resize(ref _values, 2 * Count);
            _count = Count;
            _countedIn = _frame();
            _values[_count++] = float.IsNaN(value) || float.IsInfinity(value) ? Missing : value;
        }

        /// <summary>Keep the place of a value that this frame does not have.</summary>
        public void AddMissing()
        {
            AddValue(Missing);
        }

        /// <summary>Forget all values.</summary>
        public void Clear()
        {
            _count = 0;
        }

        /// <summary>The values so far, in an array of their own.</summary>
        public float[] ToArray()
        {
            var values = new float[Count];
            Array.Copy(_values, values, Count);
            return values;
        }

        /// <summary>Move the values into `target`, which grows where it is too small, and begin the next frame. How many they were.</summary>
        public int MoveTo(ref float[] target)
        {
            if (target.Length < Count) target = new float[_values.Length];
            Array.Copy(_values, target, Count);
            var moved = Count;
            Clear();
            return moved;
        }
    }
}
