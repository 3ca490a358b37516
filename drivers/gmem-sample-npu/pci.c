// SPDX-License-Identifier: GPL-2.0
/*
 * gmem-npu sample driver: probe and remove.
 *
 * Order of removal: users first, so that no job runs and no context is left;
 * then GMEM, which brings all data home with the copy engines; then the
 * hardware; then, by the device core, interrupts, rings and mappings.  The
 * struct npu stays until the last open file is closed.
 */
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "npu.h"

unsigned int npu_timeout_ms = 5000;
module_param_named(timeout_ms, npu_timeout_ms, uint, 0644);
MODULE_PARM_DESC(timeout_ms,
		 "How long the hardware may take to answer (default 5000)");

static DEFINE_IDA(npu_ids);

/* --- counters ------------------------------------------------------------------- */

static ssize_t npu_count_show(struct device *dev, enum npu_count what,
			      char *buf)
{
	struct npu *npu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", atomic_read(&npu->counts[what]));
}

#define NPU_COUNT_ATTR(_name, _what) \
	static ssize_t _name##_show(struct device *dev, \
				    struct device_attribute *attr, char *buf) \
	{ \
		return npu_count_show(dev, _what, buf); \
	} \
	static DEVICE_ATTR_RO(_name)

NPU_COUNT_ATTR(bus_errors, NPU_COUNT_BUS_ERRORS);
NPU_COUNT_ATTR(desc_errors, NPU_COUNT_DESC_ERRORS);
NPU_COUNT_ATTR(ecc_errors, NPU_COUNT_ECC_ERRORS);
NPU_COUNT_ATTR(faultq_overflows, NPU_COUNT_FAULTQ_OVERFLOWS);
NPU_COUNT_ATTR(copy_errors, NPU_COUNT_COPY_ERRORS);
NPU_COUNT_ATTR(queue_hangs, NPU_COUNT_QUEUE_HANGS);
NPU_COUNT_ATTR(device_resets, NPU_COUNT_DEVICE_RESETS);

static struct attribute *npu_count_attrs[] = {
	&dev_attr_bus_errors.attr,
	&dev_attr_desc_errors.attr,
	&dev_attr_ecc_errors.attr,
	&dev_attr_faultq_overflows.attr,
	&dev_attr_copy_errors.attr,
	&dev_attr_queue_hangs.attr,
	&dev_attr_device_resets.attr,
	NULL
};

static_assert(ARRAY_SIZE(npu_count_attrs) == NPU_NR_COUNTS + 1);

static const struct attribute_group npu_count_group = {
	.name	= "counters",
	.attrs	= npu_count_attrs,
};

static const struct attribute_group *npu_groups[] = {
	&npu_count_group,
	NULL
};

/* --- the device ------------------------------------------------------------------- */

static void npu_release(struct kref *ref)
{
	struct npu *npu = container_of(ref, struct npu, ref);

	ida_destroy(&npu->ctx_ids);
	kfree(npu);
}

/**
 * npu_put() - drop a reference
 * @npu: device
 *
 * Context: Process context.
 */
void npu_put(struct npu *npu)
{
	kref_put(&npu->ref, npu_release);
}

/* Unbound: the number is free, though open files may keep the rest. */
static void npu_unbind_action(void *data)
{
	struct npu *npu = data;

	ida_free(&npu_ids, npu->id);
	npu_put(npu);
}

static struct npu *npu_alloc(struct pci_dev *pdev)
{
	struct npu *npu;
	int ret;

	npu = kzalloc(sizeof(*npu), GFP_KERNEL);
	if (!npu)
		return ERR_PTR(-ENOMEM);
	npu->id = ida_alloc(&npu_ids, GFP_KERNEL);
	if (npu->id < 0) {
		ret = npu->id;
		kfree(npu);
		return ERR_PTR(ret);
	}
	kref_init(&npu->ref);
	npu->pdev = pdev;
	snprintf(npu->name, sizeof(npu->name), NPU_NAME "%d", npu->id);
	spin_lock_init(&npu->tables_lock);
	ida_init(&npu->ctx_ids);
	mutex_init(&npu->reset_lock);
	spin_lock_init(&npu->tlbi_lock);
	spin_lock_init(&npu->faultq_lock);
	init_waitqueue_head(&npu->fault_wait);
	INIT_DELAYED_WORK(&npu->watchdog, npu_watchdog);
	mutex_init(&npu->inject_lock);
	mutex_init(&npu->files_lock);
	INIT_LIST_HEAD(&npu->files);

	/* Taken first, so dropped after everything else of the device. */
	ret = devm_add_action_or_reset(&pdev->dev, npu_unbind_action, npu);
	return ret ? ERR_PTR(ret) : npu;
}

static int npu_pci_enable(struct npu *npu)
{
	struct pci_dev *pdev = npu->pdev;
	int ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = pcim_request_region(pdev, NPU_BAR_MEM, npu->name);
	if (ret)
		return ret;
	npu->regs = pcim_iomap_region(pdev, NPU_BAR_REGS, npu->name);
	if (IS_ERR(npu->regs))
		return PTR_ERR(npu->regs);
	if (pci_resource_len(pdev, NPU_BAR_REGS) < NPU_BAR_REGS_SIZE)
		return -ENODEV;

	/* What a page-table entry can hold; one piece of any length. */
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(52));
	if (ret)
		return ret;
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);
	return npu_hw_probe(npu);
}

static int npu_request_irq(struct npu *npu, unsigned int vector,
			   irq_handler_t handler, void *data, const char *what,
			   unsigned int nr)
{
	struct device *dev = &npu->pdev->dev;
	char *name;

	name = devm_kasprintf(dev, GFP_KERNEL, "%s-%s%u", npu->name, what, nr);
	if (!name)
		return -ENOMEM;
	return devm_request_irq(dev, pci_irq_vector(npu->pdev, vector),
				handler, 0, name, data);
}

static int npu_request_irqs(struct npu *npu)
{
	unsigned int nr = npu_nr_queues(npu);
	unsigned int i;
	int ret;

	ret = pci_alloc_irq_vectors(npu->pdev, NPU_VEC_QUEUE(nr),
				    NPU_VEC_QUEUE(nr), PCI_IRQ_MSIX);
	if (ret < 0)
		return ret;
	ret = npu_request_irq(npu, NPU_VEC_FAULT, npu_fault_irq, npu,
			      "fault", 0);
	if (ret)
		return ret;
	ret = npu_request_irq(npu, NPU_VEC_ERROR, npu_error_irq, npu,
			      "error", 0);
	for (i = 0; i < nr && !ret; i++)
		ret = npu_request_irq(npu, NPU_VEC_QUEUE(i), npu_queue_irq,
				      npu_queue(npu, i), "queue", i);
	return ret;
}

static int npu_alloc_resources(struct npu *npu)
{
	int ret;

	ret = npu_tables_init(npu);
	if (ret)
		return ret;
	ret = npu_faults_init(npu);
	if (ret)
		return ret;
	ret = npu_compute_init(npu);
	if (ret)
		return ret;
	ret = npu_engines_init(npu);
	if (ret)
		return ret;
	return npu_request_irqs(npu);
}

static int npu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct npu *npu;
	int ret;

	npu = npu_alloc(pdev);
	if (IS_ERR(npu))
		return PTR_ERR(npu);
	pci_set_drvdata(pdev, npu);
	ret = npu_pci_enable(npu);
	if (ret)
		return ret;
	ret = npu_alloc_resources(npu);
	if (ret)
		return ret;

	pci_set_master(pdev);
	npu_hw_start(npu);
	ret = npu_gmem_init(npu);
	if (ret)
		goto err_stop;
	ret = npu_cdev_add(npu);
	if (ret)
		goto err_gmem;
	return 0;

err_gmem:
	npu_gmem_exit(npu);
err_stop:
	npu_hw_stop(npu);
	return ret;
}

static void npu_remove(struct pci_dev *pdev)
{
	struct npu *npu = pci_get_drvdata(pdev);

	npu_cdev_remove(npu);
	npu_gmem_exit(npu);
	npu_hw_stop(npu);
}

static const struct pci_device_id npu_pci_ids[] = {
	{ PCI_DEVICE(NPU_PCI_VENDOR, NPU_PCI_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, npu_pci_ids);

static struct pci_driver npu_driver = {
	.name		= NPU_NAME,
	.id_table	= npu_pci_ids,
	.probe		= npu_probe,
	.remove		= npu_remove,
	.dev_groups	= npu_groups,
};

static int __init npu_init(void)
{
	int ret;

	npu_fail_init();
	ret = pci_register_driver(&npu_driver);
	if (ret)
		npu_fail_exit();
	return ret;
}
module_init(npu_init);

static void __exit npu_exit(void)
{
	pci_unregister_driver(&npu_driver);
	npu_fail_exit();
}
module_exit(npu_exit);

MODULE_DESCRIPTION("Sample driver for GMEM: the gmem-npu virtual accelerator");
MODULE_LICENSE("GPL");
