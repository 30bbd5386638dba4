namespace GemmaServer.Engine;

/// <summary>What a <see cref="Heap{T}"/> holds: it knows its place there, so that it can be found without searching.</summary>
internal interface IHeapItem<in T>
{
    /// <summary>Place in the heap; −1 outside.</summary>
    int HeapIndex { get; set; }

    /// <summary>Whether this one comes out before the other.</summary>
    bool ComesBefore(T other);
}

/// <summary>A binary heap whose items can be removed and moved from anywhere. Allocates only to grow.</summary>
internal sealed class Heap<T> where T : class, IHeapItem<T>
{
    private readonly List<T> _items = [];

    public int Count => _items.Count;

    /// <summary>The one that comes first; ask <see cref="Count"/> first.</summary>
    public T Top => _items[0];

    public void Add(T item)
    {
        item.HeapIndex = _items.Count;
        _items.Add(item);
        Rise(item);
    }

    /// <summary>Takes an item out; nothing happens to one that is outside.</summary>
    public void Remove(T item)
    {
        int hole = item.HeapIndex;
        if (hole < 0) return;
        T last = _items[^1];
        _items.RemoveAt(_items.Count - 1);
        item.HeapIndex = -1;
        if (last == item) return;
        Put(last, hole);
        Moved(last);
    }

    /// <summary>An item compares otherwise than before.</summary>
    public void Moved(T item)
    {
        Rise(item);
        Sink(item);
    }

    private void Rise(T item)
    {
        int at = item.HeapIndex;
        for (; at > 0 && item.ComesBefore(_items[(at - 1) / 2]); at = (at - 1) / 2) Put(_items[(at - 1) / 2], at);
        Put(item, at);
    }

    private void Sink(T item)
    {
        int at = item.HeapIndex;
        while (2 * at + 1 < _items.Count)
        {
            int child = 2 * at + 1;
            if (child + 1 < _items.Count && _items[child + 1].ComesBefore(_items[child])) child++;
            if (!_items[child].ComesBefore(item)) break;
            Put(_items[child], at);
            at = child;
        }
        Put(item, at);
    }

    private void Put(T item, int at)
    {
        _items[at] = item;
        item.HeapIndex = at;
    }
}
