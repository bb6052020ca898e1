using System;

namespace Sgaps.Client
{
    /// <summary>Pauses between tries: twice as long each time, and at random, so that many clients do not return as one.</summary>
    internal sealed class Backoff
    {
        private const double FirstSecs = 0.2;
        private const double LongestSecs = 5;

        private readonly Random _random;
        private double _nextSecs = FirstSecs;

        public Backoff(Random random)
        {
            _random = random;
        }

        /// <summary>The next pause, half to all of what it has grown to, in seconds.</summary>
        public double NextSecs()
        {
            var pauseSecs = _nextSecs * (0.5 + _random.NextDouble() / 2);
            _nextSecs = Math.Min(2 * _nextSecs, LongestSecs);
            return pauseSecs;
        }

        public void Reset()
        {
            _nextSecs = FirstSecs;
        }
    }
}
