// What lies between the products of matrices, fused: everything is bfloat16 in memory and float in between.
// No headers are needed, so that a compiler is all there has to be.

typedef unsigned short half_t;
typedef unsigned int word;

__device__ __forceinline__ float up(word bits) { return __uint_as_float(bits << 16); }

__device__ __forceinline__ half_t down(float value) {
  half_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ float rounded(float value) { return up(down(value)); }

// Eight numbers are what one thread reads and writes at once.
struct Eight {
  float at[8];

  __device__ __forceinline__ explicit Eight(uint4 packed) {
    const word words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      at[2 * i] = up(words[i] & 0xffff);
      at[2 * i + 1] = up(words[i] >> 16);
    }
  }

  __device__ __forceinline__ uint4 packed() const {
    word words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) words[i] = down(at[2 * i]) | (word)down(at[2 * i + 1]) << 16;
    return make_uint4(words[0], words[1], words[2], words[3]);
  }
};

__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffff, value, distance);
  return value;
}

// hidden += delta, where there is one; out = hidden scaled to a mean square of one, times weight. A block is a row.
extern "C" __global__ void add_norm(uint4 *hidden, const uint4 *delta, const uint4 *weight, uint4 *out, int eights,
                                    float epsilon) {
  __shared__ float sums[32];
  const long long row = (long long)blockIdx.x * eights;
  float squares = 0;
  for (int i = threadIdx.x; i < eights; i += blockDim.x) {
    Eight own(hidden[row + i]);
    if (delta) {
      const Eight more(delta[row + i]);
#pragma unroll
      for (int j = 0; j < 8; j++) own.at[j] = rounded(own.at[j] + more.at[j]);
      hidden[row + i] = own.packed();
    }
#pragma unroll
    for (int j = 0; j < 8; j++) squares += own.at[j] * own.at[j];
  }
  squares = sum_of_warp(squares);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (lane == 0) sums[warp] = squares;
  __syncthreads();
  squares = sum_of_warp(lane < (blockDim.x + 31) / 32 ? sums[lane] : 0);
  const float scale = rsqrtf(squares / (8 * eights) + epsilon);
  for (int i = threadIdx.x; i < eights; i += blockDim.x) {
    Eight own(hidden[row + i]);
    const Eight factor(weight[i]);
#pragma unroll
    for (int j = 0; j < 8; j++) own.at[j] *= scale * factor.at[j];
    out[row + i] = own.packed();
  }
}

// Of each token's heads: queries and keys normalised, where there are norms, and rotated; keys and values stored at
// the token's place. A warp is a head of a token.
extern "C" __global__ void turn(const half_t *fused, const half_t *cosines, const half_t *sines,
                                const long long *positions, const long long *places, half_t *keys, half_t *values,
                                half_t *query, const half_t *query_norm, const half_t *key_norm, int tokens, int heads,
                                int kv_heads, int width, float epsilon) {
  const int lane = threadIdx.x % 32, all = heads + 2 * kv_heads, pairs = width / 2;
  const long long number = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (number >= (long long)tokens * all) return;
  const long long token = number / all;
  const int head = number % all;
  const half_t *from = fused + number * width;
  const bool is_query = head < heads;
  half_t *to = is_query ? query + (token * heads + head) * width
                        : keys + (places[token] * kv_heads + head - heads) * width;
  if (head >= heads + kv_heads) {
    const word *source = (const word *)from;
    word *target = (word *)(values + (places[token] * kv_heads + head - heads - kv_heads) * width);
    for (int i = lane; i < pairs; i += 32) target[i] = source[i];
    return;
  }
  const half_t *norm = is_query ? query_norm : key_norm;
  float scale = 1;
  if (norm) {
    float squares = 0;
    for (int i = lane; i < width; i += 32) squares += up(from[i]) * up(from[i]);
    scale = rsqrtf(sum_of_warp(squares) / width + epsilon);
  }
  const long long angle = positions[token] * pairs;
  for (int i = lane; i < pairs; i += 32) {
    float left = up(from[i]), right = up(from[i + pairs]);
    if (norm) {
      left = rounded(left * scale * up(norm[i]));
      right = rounded(right * scale * up(norm[i + pairs]));
    }
    const float cosine = up(cosines[angle + i]), sine = up(sines[angle + i]);
    to[i] = down(left * cosine - right * sine);
    to[i + pairs] = down(right * cosine + left * sine);
  }
}

// out = activation(gate) * up, which lie side by side in each row of `both`.
extern "C" __global__ void gated(const uint4 *both, uint4 *out, long long total, int eights, int gelu) {
  const long long number = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (number >= total) return;
  const long long at = number / eights * 2 * eights + number % eights;
  const Eight gate(both[at]);
  Eight result(both[at + eights]);
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const float x = gate.at[j];
    const float open = gelu ? 0.5f * x * (1 + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)))
                            : x / (1 + __expf(-x));
    result.at[j] *= rounded(open);
  }
  out[number] = result.packed();
}
