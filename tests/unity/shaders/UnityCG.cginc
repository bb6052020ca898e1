// What Luma.shader uses of Unity's includes, by hand, so that glslang can compile it; see Unity's HLSLSupport.cginc and
// UnityCG.cginc (2021.3).
#define UNITY_DECLARE_TEX2D(tex) Texture2D tex; SamplerState sampler##tex
#define UNITY_SAMPLE_TEX2D(tex, coord) tex.Sample(sampler##tex, coord)

struct appdata_img
{
    float4 vertex : POSITION;
    float2 texcoord : TEXCOORD0;
};

float4x4 unity_MatrixMVP;

float4 UnityObjectToClipPos(float4 position)
{
    return mul(unity_MatrixMVP, position);
}
