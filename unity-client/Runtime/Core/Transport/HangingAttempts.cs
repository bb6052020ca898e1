using System.Collections.Concurrent;
using System.IO;
using System.Linq;
using System.Threading.Tasks;

namespace Sgaps.Client
{
    /// <summary>
    /// Attempts to connect that were given up and have not ended: Mono keeps the socket of one until the server answers or
    /// closes it, so a server that does neither would be given one more with each attempt.
    /// </summary>
    internal static class HangingAttempts
    {
        private const int Most = 4;

        // A server that is gone without a word never closes anything, and may be back.
        private const int ForgottenAfterMs = 10 * 60 * 1000;

        private static readonly ConcurrentDictionary<Task, string> Servers = new ConcurrentDictionary<Task, string>();

        /// <summary>Throws IOException where too many attempts to connect to the server (host and port) hang.</summary>
        public static void RequireFew(string server)
        {
            var count = Servers.Values.Count(other => other == server);
            if (count >= Most) throw new IOException("not tried: " + count + " earlier attempts are still not answered");
        }

        /// <summary>Count an attempt until it ends, or for ten minutes.</summary>
        public static void Add(Task attempt, string server)
        {
            Servers[attempt] = server;
            Task.WhenAny(attempt, Task.Delay(ForgottenAfterMs)).ContinueWith(_ => Servers.TryRemove(attempt, out server), TaskScheduler.Default);
        }
    }
}
