using ILGPU;

namespace GemmaServer.Compute.Ilgpu;

#pragma warning disable CS1591 // Fields named by their place.

/// <summary>Eight bytes, so that a lane loads them at once.</summary>
internal struct Pair
{
    public uint X, Y;
}

/// <summary>Sixteen bytes, so that a lane loads them at once.</summary>
internal struct Quad
{
    public uint X, Y, Z, W;
}

/// <summary>Four floats side by side.</summary>
internal struct Four
{
    public float X, Y, Z, W;

    public Four(float x, float y, float z, float w) => (X, Y, Z, W) = (x, y, z, w);

    public readonly float Dot(Four b) => X * b.X + Y * b.Y + Z * b.Z + W * b.W;

    public readonly Four Add(Four b, float factor) => new(X + b.X * factor, Y + b.Y * factor, Z + b.Z * factor, W + b.W * factor);

    public readonly Four Times(float factor) => new(X * factor, Y * factor, Z * factor, W * factor);

    /// <summary>The greatest of the four without their signs.</summary>
    public readonly float Most => IntrinsicMath.Max(
        IntrinsicMath.Max(IntrinsicMath.Abs(X), IntrinsicMath.Abs(Y)), IntrinsicMath.Max(IntrinsicMath.Abs(Z), IntrinsicMath.Abs(W)));

    public readonly Four Times(Four b) => new(X * b.X, Y * b.Y, Z * b.Z, W * b.W);
}

/// <summary>Eight weights of a row.</summary>
internal struct Eight
{
    public Four Low, High;

    public Eight(Four low, Four high) => (Low, High) = (low, high);
}
