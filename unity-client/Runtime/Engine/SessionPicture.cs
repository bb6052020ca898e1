using System;
using UnityEngine;
using UnityEngine.Networking;

namespace Sgaps.Client
{
    /// <summary>One picture of a running session, fetched over HTTP again and again while somebody looks.</summary>
    public sealed class SessionPicture : IDisposable
    {
        private const double PeriodSecs = 1;
        private const int TimeoutSecs = 5;
        private const long NotFound = 404;
        private const int LongestAnswer = 300;

        private readonly string _name;
        private UnityWebRequest _request;
        private string _gateway;
        private double _nextAtSecs;

        /// <summary>`reconstruction.png` or `importance.png`.</summary>
        public SessionPicture(string name)
        {
            _name = name;
            Status = "nothing fetched yet";
        }

        /// <summary>The newest picture; null before the first.</summary>
        public Texture2D Texture { get; private set; }

        /// <summary>What came of the newest request, for people.</summary>
        public string Status { get; private set; }

        /// <summary>Fetch if it is time to; call it every frame. `nowSecs` is any clock in seconds.</summary>
        public void Poll(NetworkClient client, double nowSecs)
        {
            if (_request != null) FinishIfDone();
            else if (nowSecs >= _nextAtSecs && client != null && client.IsRunning && client.Session.Account != null) Begin(client, nowSecs);
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            if (_request != null) _request.Dispose();
            _request = null;
            Forget();
        }

        private void Begin(NetworkClient client, double nowSecs)
        {
            _nextAtSecs = nowSecs + PeriodSecs;
            _gateway = client.Config.HttpAddress;
            var address = _gateway + "/api/sessions/" + client.Session.Account.SessionId + "/" + _name;
            _request = UnityWebRequestTexture.GetTexture(address);
            _request.timeout = TimeoutSecs;
            // Not even an empty one without a token: in a browser it makes the server's permission necessary.
            var authorization = client.Config.HttpAuthorization;
            if (authorization != null) _request.SetRequestHeader("Authorization", authorization);
            try
            {
                _request.SendWebRequest();
            }
            catch (InvalidOperationException error)
            {
                // Since Unity 2022 for every plain http://, that of this machine too.
                Status = error.Message + " (Player Settings, Allow downloads over HTTP)";
                End();
            }
        }

        private void FinishIfDone()
        {
            if (!_request.isDone) return;
            if (_request.result == UnityWebRequest.Result.Success) Show(DownloadHandlerTexture.GetContent(_request));
            else Status = Failure();
            End();
        }

        private string Failure()
        {
            if (_request.responseCode == NotFound) return "no picture yet, or no gateway at " + _gateway;
            if (_request.result != UnityWebRequest.Result.ProtocolError) return _request.error;
            // The gateway answers what to do; a proxy may answer with a whole page.
            var answer = _request.downloadHandler.text;
            return _request.error + ": " + answer.Substring(0, Math.Min(answer.Length, LongestAnswer));
        }

        private void End()
        {
            _request.Dispose();
            _request = null;
        }

        private void Show(Texture2D texture)
        {
            Forget();
            Texture = texture;
            Texture.filterMode = FilterMode.Point;
            Status = "frame " + _request.GetResponseHeader("X-Frame-Id");
        }

        private void Forget()
        {
            if (Texture == null) return;
            if (Application.isPlaying) UnityEngine.Object.Destroy(Texture);
            else UnityEngine.Object.DestroyImmediate(Texture);
            Texture = null;
        }
    }
}
