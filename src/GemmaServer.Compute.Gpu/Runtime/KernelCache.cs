using System.Security.Cryptography;
using System.Text;

namespace GemmaServer.Compute;

/// <summary>
/// Compiled programs on disk, so that only the first start waits for the compiler. The key is a hash over source, options,
/// driver and device; a file appears whole or not at all, so several processes may share the folder.
/// </summary>
/// <param name="folder">Made at the first write; null for no cache.</param>
internal sealed class KernelCache(string? folder)
{
    /// <summary>GEMMASERVER_KERNEL_CACHE, or "gemmaserver/kernels" in the user's cache folder; an empty variable is no cache.</summary>
    public static KernelCache Default()
    {
        string? chosen = Environment.GetEnvironmentVariable("GEMMASERVER_KERNEL_CACHE");
        if (chosen is not null) return new KernelCache(chosen.Length == 0 ? null : chosen);
        string? home = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        if (string.IsNullOrEmpty(home))
        {
            home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
            if (home.Length == 0) return new KernelCache(null);
            home = Path.Combine(home, ".cache");
        }
        return new KernelCache(Path.Combine(home, "gemmaserver", "kernels"));
    }

    /// <summary>Whether anything is kept: asking a driver for a binary can make it compile once more.</summary>
    public bool Keeps => folder is not null;

    /// <summary>A key over everything that the compiled form depends on.</summary>
    public static string Key(params ReadOnlySpan<string> parts)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string part in parts)
        {
            hash.AppendData(Encoding.UTF8.GetBytes(part));
            hash.AppendData([0]);
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>The stored bytes; null when there are none that can be read.</summary>
    public byte[]? Read(string key)
    {
        if (folder is null) return null;
        try
        {
            string path = Path.Combine(folder, key);
            return File.Exists(path) ? File.ReadAllBytes(path) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Stores; a folder that cannot be written is no cache.</summary>
    public void Write(string key, ReadOnlySpan<byte> bytes)
    {
        if (folder is null) return;
        try
        {
            Directory.CreateDirectory(folder);
            string path = Path.Combine(folder, key), begun = $"{path}.{Environment.ProcessId}.{Environment.CurrentManagedThreadId}";
            File.WriteAllBytes(begun, bytes);
            File.Move(begun, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The next start compiles again.
        }
    }

    /// <summary>Forgets an entry that the driver would not take.</summary>
    public void Remove(string key)
    {
        if (folder is null) return;
        try
        {
            File.Delete(Path.Combine(folder, key));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It is written over below.
        }
    }
}
