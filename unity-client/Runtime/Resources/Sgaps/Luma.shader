// A picture of any size to gamma-encoded BT.601 luma in the red channel. Used by Graphics.Blit, outside of any render
// pipeline, so built-in and URP run the same.
Shader "Hidden/SGAPS/Luma"
{
    Properties
    {
        _MainTex ("Screen", 2D) = "black" {}
    }
    SubShader
    {
        Cull Off ZWrite Off ZTest Always

        Pass
        {
            HLSLPROGRAM
            #pragma vertex Vertex
            #pragma fragment Fragment
            #include "UnityCG.cginc"

            UNITY_DECLARE_TEX2D(_MainTex);
            int _EncodeSrgb;   // 1 where sampling _MainTex decodes sRGB

            struct Varyings
            {
                float4 position : SV_POSITION;
                float2 uv : TEXCOORD0;
            };

            Varyings Vertex(appdata_img input)
            {
                Varyings output;
                output.position = UnityObjectToClipPos(input.vertex);
                output.uv = input.texcoord;
                return output;
            }

            // IEC 61966-2-1.
            float3 Encoded(float3 linearRgb)
            {
                float3 low = linearRgb * 12.92;
                float3 high = 1.055 * pow(max(linearRgb, 0.0031308), 1.0 / 2.4) - 0.055;
                return lerp(high, low, step(linearRgb, 0.0031308));
            }

            // The integer arithmetic of OpenCV, which the server's other clients use, on the bytes that the screen shows.
            float4 Fragment(Varyings input) : SV_Target
            {
                float3 color = saturate(UNITY_SAMPLE_TEX2D(_MainTex, input.uv).rgb);
                if (_EncodeSrgb != 0) color = Encoded(color);
                float3 bytes = floor(color * 255.0 + 0.5);
                float luma = floor((dot(bytes, float3(9798, 19235, 3735)) + 16384.0) / 32768.0);
                return float4(luma.xxx / 255.0, 1.0);
            }
            ENDHLSL
        }
    }
}
