using System;
using System.Collections.Concurrent;

namespace Sgaps.Client
{
    /// <summary>A message in a queue; its memory comes from the pool and goes back there.</summary>
    internal sealed class PooledMessage
    {
        public byte[] Bytes = new byte[4096];
        public int Count;
        public bool IsText;

        public void Reserve(int count)
        {
            if (Bytes.Length < count) Array.Resize(ref Bytes, Math.Max(count, 2 * Bytes.Length));
        }
    }

    /// <summary>Messages that are not in use, for any thread.</summary>
    internal sealed class MessagePool
    {
        // Larger ones, keyframes mostly, are left to the garbage collector.
        private const int LargestKeptBytes = 64 * 1024;

        private readonly ConcurrentQueue<PooledMessage> _free = new ConcurrentQueue<PooledMessage>();

        public PooledMessage Take()
        {
            PooledMessage message;
            if (!_free.TryDequeue(out message)) return new PooledMessage();
            message.Count = 0;
            return message;
        }

        public void Give(PooledMessage message)
        {
            if (message.Bytes.Length <= LargestKeptBytes) _free.Enqueue(message);
        }
    }
}
