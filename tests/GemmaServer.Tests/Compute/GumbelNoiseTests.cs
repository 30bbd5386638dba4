using GemmaServer.Compute;

namespace GemmaServer.Tests.Compute;

[Trait("Category", "Kernels")]
public class GumbelNoiseTests
{
    // Known answers of Random123's kat_vectors for philox4x32, 10 rounds.
    [Theory]
    [InlineData(0u, 0u, 0u, 0u, 0u, 0u, 0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u)]
    [InlineData(0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu, 0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu)]
    [InlineData(0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u, 0xa4093822u, 0x299f31d0u, 0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u)]
    public void Philox_gives_the_published_answers(
        uint c0, uint c1, uint c2, uint c3, uint k0, uint k1, uint r0, uint r1, uint r2, uint r3) =>
        Assert.Equal((r0, r1, r2, r3), GumbelNoise.Philox(((ulong)k1 << 32) | k0, c0, c1, c2, c3));

    [Fact]
    public void Noise_has_the_mean_and_variance_of_a_standard_gumbel()
    {
        const int N = 200_000;
        double sum = 0, squares = 0;
        for (int i = 0; i < N; i++)
        {
            double g = GumbelNoise.At(42, i / 1000, i % 1000);
            sum += g;
            squares += g * g;
        }
        double mean = sum / N;
        Assert.Equal(0.5772, mean, 0.02);
        Assert.Equal(Math.PI * Math.PI / 6, squares / N - mean * mean, 0.04);
    }
}
