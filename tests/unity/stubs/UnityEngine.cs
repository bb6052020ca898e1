// The members of UnityEngine 2021.3 that the package uses, by hand from Unity's scripting reference, so that mcs can check
// the types. Only what tests/unity/engine runs does something; a member that is missing or different in Unity is not found
// out here.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Reflection;

namespace Unity.Collections
{
    public struct NativeArray<T> where T : struct
    {
        public int Length { get { throw new NotImplementedException(); } }
        public T this[int index] { get { throw new NotImplementedException(); } set { throw new NotImplementedException(); } }
        public static void Copy(NativeArray<T> src, T[] dst, int length) { throw new NotImplementedException(); }
    }
}

namespace UnityEngine
{
    using Unity.Collections;

    /// <summary>Not of Unity: the player's side of it, for tests.</summary>
    public static class Stub
    {
        public static int ScreenWidth;
        public static double NowSecs;
        public static int Frame;
        public static IEnumerator Coroutine;
        public static readonly List<Exception> Logged = new List<Exception>();
        public static long ResponseCode;
        public static string ResponseText = "";

        /// <summary>What Unity does at the load of a scene, after the Awake and OnEnable of some other scripts.</summary>
        public static void Enable(Behaviour component)
        {
            component.enabled = component.isActiveAndEnabled = true;
            Tell(component, "OnEnable");
        }

        public static void Disable(Behaviour component)
        {
            component.enabled = component.isActiveAndEnabled = false;
            Tell(component, "OnDisable");
        }

        private static void Tell(Behaviour component, string message)
        {
            component.GetType().GetMethod(message, BindingFlags.NonPublic | BindingFlags.Instance).Invoke(component, null);
        }
    }

    public class Object
    {
        public string name { get; set; }
        public static void Destroy(Object obj) { }
        public static void DestroyImmediate(Object obj) { throw new NotImplementedException(); }
        public static T FindObjectOfType<T>() where T : Object { throw new NotImplementedException(); }
        public static bool operator ==(Object x, Object y) { return ReferenceEquals(x, y); }
        public static bool operator !=(Object x, Object y) { return !(x == y); }
        public override bool Equals(object other) { throw new NotImplementedException(); }
        public override int GetHashCode() { throw new NotImplementedException(); }
    }

    public class ScriptableObject : Object { }

    public class Component : Object
    {
        private readonly GameObject _gameObject = new GameObject("");

        public Transform transform { get { throw new NotImplementedException(); } }
        public GameObject gameObject { get { return _gameObject; } }
        public T GetComponent<T>() { throw new NotImplementedException(); }
    }

    public class Behaviour : Component
    {
        public bool enabled { get; set; } = true;
        public bool isActiveAndEnabled { get; internal set; }
    }

    public class MonoBehaviour : Behaviour
    {
        public Coroutine StartCoroutine(IEnumerator routine)
        {
            routine.MoveNext();
            Stub.Coroutine = routine;
            return new Coroutine();
        }

        public void StopCoroutine(Coroutine routine) { }
    }

    public sealed class GameObject : Object
    {
        public GameObject(string name) { }
        public bool activeInHierarchy { get; private set; } = true;
        public void SetActive(bool value) { activeInHierarchy = value; }
        public T AddComponent<T>() where T : Component { throw new NotImplementedException(); }
    }

    public class Transform : Component
    {
        public Vector3 position { get; set; }
        public Vector3 eulerAngles { get; set; }
    }

    public sealed class Camera : Behaviour { public static Camera main { get { throw new NotImplementedException(); } } }

    public struct Vector3
    {
        public float x, y, z;
        public static float Distance(Vector3 a, Vector3 b) { throw new NotImplementedException(); }
    }

    public static class Mathf { public static float DeltaAngle(float current, float target) { throw new NotImplementedException(); } }
    public struct Rect { public Rect(float x, float y, float width, float height) { throw new NotImplementedException(); } }
    public struct Keyframe { public Keyframe(float time, float value) { throw new NotImplementedException(); } }
    public struct Color32 { public byte r, g, b, a; }
    public class YieldInstruction { }
    public sealed class Coroutine : YieldInstruction { }
    public sealed class WaitForEndOfFrame : YieldInstruction { }

    [AttributeUsage(AttributeTargets.Field)] public sealed class SerializeField : Attribute { }
    [AttributeUsage(AttributeTargets.Field)] public class TooltipAttribute : Attribute { public TooltipAttribute(string tooltip) { } }
    [AttributeUsage(AttributeTargets.Field)] public sealed class RangeAttribute : Attribute { public RangeAttribute(float min, float max) { } }
    [AttributeUsage(AttributeTargets.Class)] public sealed class DisallowMultipleComponent : Attribute { }
    [AttributeUsage(AttributeTargets.Class)] public sealed class AddComponentMenu : Attribute { public AddComponentMenu(string menuName) { } }
    [AttributeUsage(AttributeTargets.Class)] public sealed class RequireComponent : Attribute { public RequireComponent(Type requiredComponent) { } }

    public static class Debug
    {
        public static void Log(object message) { throw new NotImplementedException(); }
        public static void Log(object message, Object context) { }
        public static void LogWarning(object message, Object context) { }
        public static void LogError(object message) { throw new NotImplementedException(); }
        public static void LogError(object message, Object context) { throw new NotImplementedException(); }
        public static void LogException(Exception exception, Object context) { Stub.Logged.Add(exception); }
    }

    public static class Application { public static bool isPlaying { get { throw new NotImplementedException(); } } }

    public static class Screen
    {
        public static int width { get { return Stub.ScreenWidth; } }
        public static int height { get { return 48; } }
    }

    public static class Time
    {
        public static double realtimeSinceStartupAsDouble { get { return Stub.NowSecs; } }
        public static int frameCount { get { return Stub.Frame; } }
        public static float unscaledTime { get { throw new NotImplementedException(); } }
    }

    public static class SystemInfo
    {
        public static bool supportsComputeShaders { get { return false; } }
        public static bool supportsAsyncGPUReadback { get { return false; } }
        public static bool graphicsUVStartsAtTop { get { return false; } }
    }

    public static class Resources { public static T Load<T>(string path) where T : Object { return Activator.CreateInstance<T>(); } }

    public static class ScreenCapture
    {
        public static void CaptureScreenshotIntoRenderTexture(RenderTexture renderTexture) { throw new NotImplementedException(); }
    }

    public class Shader : Object { public static int PropertyToID(string name) { return 0; } }

    public class Material : Object
    {
        public Material(Shader shader) { }
        public void SetInt(int nameID, int value) { throw new NotImplementedException(); }
    }

    public sealed class ComputeShader : Object
    {
        public int FindKernel(string name) { throw new NotImplementedException(); }
        public void SetTexture(int kernelIndex, int nameID, Texture texture) { throw new NotImplementedException(); }
        public void SetBuffer(int kernelIndex, int nameID, ComputeBuffer buffer) { throw new NotImplementedException(); }
        public void Dispatch(int kernelIndex, int threadGroupsX, int threadGroupsY, int threadGroupsZ) { throw new NotImplementedException(); }
    }

    public sealed class ComputeBuffer : IDisposable
    {
        public ComputeBuffer(int count, int stride) { throw new NotImplementedException(); }
        public int count { get { throw new NotImplementedException(); } }
        public void SetData(Array data, int managedBufferStartIndex, int computeBufferStartIndex, int count) { throw new NotImplementedException(); }
        public void Release() { throw new NotImplementedException(); }
        public void Dispose() { throw new NotImplementedException(); }
    }

    public static class Graphics
    {
        public static void Blit(Texture source, RenderTexture dest, Material mat) { throw new NotImplementedException(); }
    }

    public enum FilterMode { Point, Bilinear, Trilinear }
    public enum TextureFormat { RGBA32 = 4, R8 = 63 }
    public enum RenderTextureFormat { ARGB32 = 0, R8 = 16 }
    public enum RenderTextureReadWrite { Default, Linear, sRGB }

    public class Texture : Object
    {
        public virtual int width { get; set; }
        public virtual int height { get; set; }
        public FilterMode filterMode { get; set; }
    }

    public class Texture2D : Texture
    {
        public Texture2D(int width, int height, TextureFormat textureFormat, bool mipChain, bool linear) { throw new NotImplementedException(); }
        public void ReadPixels(Rect source, int destX, int destY, bool recalculateMipMaps) { throw new NotImplementedException(); }
        public NativeArray<T> GetPixelData<T>(int mipLevel) where T : struct { throw new NotImplementedException(); }
    }

    public class RenderTexture : Texture
    {
        public RenderTexture(int width, int height, int depth, RenderTextureFormat format, RenderTextureReadWrite readWrite) { }
        public static RenderTexture active { get; set; }
        public bool useMipMap { get; set; }
        public bool autoGenerateMips { get; set; }
        public bool sRGB { get { throw new NotImplementedException(); } }
        public bool Create() { return true; }
        public void GenerateMips() { throw new NotImplementedException(); }
        public void Release() { }
    }

    public enum KeyCode { F8 = 289 }
    public enum ScaleMode { StretchToFill, ScaleAndCrop, ScaleToFit }

    public class Input { public static bool GetKeyDown(KeyCode key) { throw new NotImplementedException(); } }

    public class GUIContent { }
    public sealed class GUIStyle { }
    public class GUISkin : ScriptableObject { public GUIStyle box { get; set; } }
    public class GUILayoutOption { }

    public class GUI
    {
        public static GUISkin skin { get; set; }
        public static void DrawTexture(Rect position, Texture image, ScaleMode scaleMode) { throw new NotImplementedException(); }
    }

    public class GUILayout
    {
        public static void BeginArea(Rect screenRect, GUIStyle style) { throw new NotImplementedException(); }
        public static void EndArea() { throw new NotImplementedException(); }
        public static void Label(string text, params GUILayoutOption[] options) { throw new NotImplementedException(); }
        public static bool Button(string text, params GUILayoutOption[] options) { throw new NotImplementedException(); }
    }

    public class GUILayoutUtility
    {
        public static Rect GetAspectRect(float aspect) { throw new NotImplementedException(); }
    }
}

namespace UnityEngine.Rendering
{
    using Unity.Collections;

    public struct AsyncGPUReadbackRequest
    {
        public bool hasError { get { throw new NotImplementedException(); } }
        public void WaitForCompletion() { throw new NotImplementedException(); }
        public NativeArray<T> GetData<T>(int layer = 0) where T : struct { throw new NotImplementedException(); }
    }

    public static class AsyncGPUReadback
    {
        public static AsyncGPUReadbackRequest Request(ComputeBuffer src, int size, int offset, Action<AsyncGPUReadbackRequest> callback = null) { throw new NotImplementedException(); }
        public static AsyncGPUReadbackRequest Request(Texture src, int mipIndex, TextureFormat dstFormat, Action<AsyncGPUReadbackRequest> callback = null) { throw new NotImplementedException(); }
    }
}

namespace UnityEngine.Networking
{
    public class AsyncOperation { }
    public class UnityWebRequestAsyncOperation : AsyncOperation { }

    public class UnityWebRequest : IDisposable
    {
        public enum Result { InProgress, Success, ConnectionError, ProtocolError, DataProcessingError }
        public int timeout { get; set; }
        public bool isDone { get { return true; } }
        public Result result { get { return Result.ProtocolError; } }
        public long responseCode { get { return Stub.ResponseCode; } }
        public string error { get { return "HTTP/1.1 " + Stub.ResponseCode; } }
        public DownloadHandler downloadHandler { get { return new DownloadHandler(); } }
        public UnityWebRequestAsyncOperation SendWebRequest() { return new UnityWebRequestAsyncOperation(); }
        public void SetRequestHeader(string name, string value) { throw new NotImplementedException(); }
        public string GetResponseHeader(string name) { throw new NotImplementedException(); }
        public void Dispose() { }
    }

    public static class UnityWebRequestTexture
    {
        public static UnityWebRequest GetTexture(string uri) { return new UnityWebRequest(); }
    }

    public class DownloadHandler { public string text { get { return Stub.ResponseText; } } }

    public sealed class DownloadHandlerTexture : DownloadHandler
    {
        public static Texture2D GetContent(UnityWebRequest www) { throw new NotImplementedException(); }
    }
}
