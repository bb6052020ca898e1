// The members of UnityEditor 2021.3 that the package uses; see UnityEngine.cs.
using System;
using UnityEngine;

namespace UnityEditor
{
    public enum MessageType { None, Info, Warning, Error }

    [AttributeUsage(AttributeTargets.Class)] public class CustomEditor : Attribute { public CustomEditor(Type inspectedType) { } }
    [AttributeUsage(AttributeTargets.Method)] public sealed class MenuItem : Attribute { public MenuItem(string itemName) { } }

    public class Editor : ScriptableObject
    {
        public UnityEngine.Object target { get; set; }
        public static Editor CreateEditor(UnityEngine.Object targetObject) { throw new NotImplementedException(); }
        public bool DrawDefaultInspector() { throw new NotImplementedException(); }
        public virtual void OnInspectorGUI() { throw new NotImplementedException(); }
        public virtual bool RequiresConstantRepaint() { throw new NotImplementedException(); }
    }

    public class EditorWindow : ScriptableObject
    {
        public static T GetWindow<T>(string title) where T : EditorWindow { throw new NotImplementedException(); }
        public void Repaint() { throw new NotImplementedException(); }
    }

    public static class SessionState { public static bool GetBool(string key, bool defaultValue) { throw new NotImplementedException(); } }

    public static class EditorApplication
    {
        public delegate void CallbackFunction();

        public static CallbackFunction update;
        public static double timeSinceStartup { get { throw new NotImplementedException(); } }
    }

    public static class EditorGUI
    {
        public struct DisabledScope : IDisposable
        {
            public DisabledScope(bool disabled) { throw new NotImplementedException(); }
            public void Dispose() { throw new NotImplementedException(); }
        }
    }

    public static class EditorGUILayout
    {
        public static void Space() { throw new NotImplementedException(); }
        public static void HelpBox(string message, MessageType type) { throw new NotImplementedException(); }
        public static void LabelField(string label, string label2, params GUILayoutOption[] options) { throw new NotImplementedException(); }
        public static Rect BeginHorizontal(params GUILayoutOption[] options) { throw new NotImplementedException(); }
        public static void EndHorizontal() { throw new NotImplementedException(); }
    }
}
